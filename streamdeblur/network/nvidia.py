"""What NVIDIA's driver says of a GPU, in the order in which CUDA counts them."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*


@dataclass(frozen=True, slots=True)
class Gpu:
    """An NVIDIA GPU."""

    name: str
    capability: str
    """Of its instructions, for example `9.0`."""
    cuda: str
    """The newest CUDA that its driver runs, for example `13.0`."""
    memory: int
    """Bytes that it has."""
    free: int
    """Bytes that nobody uses."""


def driver() -> Any:
    """NVIDIA's driver library, or None; asking is silent and takes no time."""
    try:
        return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None


def has_driver() -> bool:
    """Whether trying CUDA makes sense."""
    return driver() is not None


def gpu(index: int) -> Gpu | None:
    """What the driver says of that GPU; None if there is no driver or no such GPU."""
    cuda = driver()
    version, device, value = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    if (
        cuda is None
        or cuda.cuInit(0)
        or cuda.cuDriverGetVersion(ctypes.byref(version))
        or cuda.cuDeviceGet(ctypes.byref(device), index)
    ):
        return None
    name = ctypes.create_string_buffer(256)
    cuda.cuDeviceGetName(name, len(name), device)
    capability = []
    for attribute in (_MAJOR, _MINOR):
        cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device)
        capability.append(str(value.value))
    free, total = _memory(cuda, device)
    return Gpu(
        name.value.decode(errors="replace"),
        ".".join(capability),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
        total,
        free,
    )


def _memory(cuda: Any, device: ctypes.c_int) -> tuple[int, int]:
    """Bytes free and in all; 0 for what cannot be asked.

    That takes the context that CUDA's own runtime uses. It is kept: ONNX Runtime takes it next.
    """
    free, total, context = ctypes.c_size_t(), ctypes.c_size_t(), ctypes.c_void_p()
    if cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device):
        cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device)
    elif not cuda.cuCtxPushCurrent_v2(context):
        cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
        cuda.cuCtxPopCurrent_v2(ctypes.byref(context))
    return free.value, total.value
