"""Several processes that share a run, started by `torchrun`: one a GPU, or one a core."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

_PATIENCE = timedelta(hours=3)
"""How long processes wait for each other: for the first one's validations above all."""


def join(name: str) -> tuple[torch.device, int]:
    """The device `name` (cpu, cuda or auto) of this process, and its rank among the others.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", name):
        raise ValueError(f"--device {name}: there is cpu, cuda and auto")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        found = torch.cuda.device_count()
        raise ValueError(f"--device {name}: this torch sees {found} CUDA devices")
    if "RANK" not in os.environ:
        return device, 0
    if not dist.is_initialized():
        dist.init_process_group("nccl" if name == "cuda" else "gloo", timeout=_PATIENCE)
    if name == "cuda":
        name = f"cuda:{os.environ['LOCAL_RANK']}"
    return torch.device(name), dist.get_rank()


def count() -> int:
    """How many share this run."""
    return dist.get_world_size() if dist.is_initialized() else 1


@torch.no_grad()
def average_gradients(parameters: Iterable[Tensor]) -> None:
    """Replace the gradients by their mean over all processes, in one message."""
    if not dist.is_initialized():
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    message = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(message)
    message /= count()
    parts = message.split([gradient.numel() for gradient in gradients])
    for gradient, part in zip(gradients, parts, strict=True):
        gradient.copy_(part.view_as(gradient))


def agree(value: float, device: torch.device) -> float:
    """The first process's `value`, in all of them."""
    if not dist.is_initialized():
        return value
    message = torch.tensor([value], dtype=torch.float64, device=device)
    dist.broadcast(message, src=0)
    return message.item()


def any_of(value: bool, device: torch.device) -> bool:
    """Whether it is true in one of the processes; the same answer in all."""
    if not dist.is_initialized():
        return value
    message = torch.tensor([float(value)], device=device)
    dist.all_reduce(message, dist.ReduceOp.MAX)
    return bool(message.item())


def wait_for_all() -> None:
    """Go on when all processes have come here."""
    if dist.is_initialized():
        dist.barrier()
