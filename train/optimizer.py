"""The optimizers, behind one face: Adam, AdamW, and Muon for the dense convolutions."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from train.config import TrainConfig
from train.muon import Muon

_MATRIX_RATE = 2.0
"""Muon's learning rate over AdamW's: by trial, see train/README.md."""


class Optimizer:
    """Moves the weights of a network against their gradients.

    Muon (https://kellerjordan.github.io/posts/muon) makes each update of a matrix orthogonal, so
    that rare directions move as far as frequent ones. A dense convolution is the matrix of its
    outputs by all that they see. The first and the last layer, depthwise kernels and biases are
    AdamW's.
    """

    def __init__(self, config: TrainConfig, network: nn.Module) -> None:
        self._matrices: list[tuple[Tensor, nn.Parameter]] = []
        """Each a kernel, and the same memory as a matrix."""
        self._betas = config.beta1, config.beta2
        rest = list(network.parameters())
        if config.optimizer == "muon":
            kernels = [p for p in rest if p.ndim == 4][1:-1]
            self._matrices = [(k, _shared(k)) for k in kernels if k.shape[1] > 1]
            taken = {id(kernel) for kernel, _ in self._matrices}
            rest = [p for p in rest if id(p) not in taken]
        kind = torch.optim.Adam if config.optimizer == "adam" else torch.optim.AdamW
        self._rates = [1.0]
        self._optimizers: list[torch.optim.Optimizer] = [
            kind(rest, lr=config.lr, betas=self._betas, weight_decay=0.0, fused=True)
        ]
        if self._matrices:
            self._rates.append(_MATRIX_RATE)
            self._optimizers.append(Muon([matrix for _, matrix in self._matrices], lr=config.lr))

    def step(self, rate: float) -> None:
        """Move the weights by the gradients that they hold."""
        for kernel, matrix in self._matrices:
            assert kernel.grad is not None
            matrix.grad = _matrix(kernel.grad)
        for optimizer, factor in zip(self._optimizers, self._rates, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * factor
            optimizer.step()

    def state(self) -> dict[str, Any]:
        """For a checkpoint."""
        return {"parts": [optimizer.state_dict() for optimizer in self._optimizers]}

    def restore(self, state: dict[str, Any]) -> None:
        """Inverse of `state`.

        Raises:
            ValueError: it is the state of another kind of optimizer.
        """
        parts = state.get("parts", [state])  # Adam's alone, in checkpoints of version 0.1.0
        if len(parts) != len(self._optimizers):
            raise ValueError("the checkpoint was made with another --optimizer")
        for optimizer, part in zip(self._optimizers, parts, strict=True):
            optimizer.load_state_dict(part)
        for group in self._optimizers[0].param_groups:
            group["betas"] = self._betas  # those of the settings, which may have changed


def _shared(kernel: Tensor) -> nn.Parameter:
    matrix = nn.Parameter(_matrix(kernel))
    if matrix.data_ptr() != kernel.data_ptr():
        raise ValueError("Muon needs kernels in channels-last memory")
    return matrix


def _matrix(kernel: Tensor) -> Tensor:
    """(O, I, K, K) -> (O, K * K * I): a view of kernels in channels-last memory."""
    return kernel.detach().permute(0, 2, 3, 1).reshape(len(kernel), -1)
