"""Mixed precision, where it pays."""

from __future__ import annotations

import torch


def mixed(device: torch.device, wanted: bool) -> torch.autocast:
    """A context that computes in bfloat16 where it is safe, if `wanted` and the device has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=wanted and has_bfloat16(device))


def has_bfloat16(device: torch.device) -> bool:
    """Whether the device has instructions for it; where it is emulated, float32 is quicker."""
    if device.type == "cuda":
        found = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        found = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return bool(found)
