"""How fast this machine runs a network on each device: measured once, and remembered."""

from __future__ import annotations

import json
import os
import platform
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Any

import onnxruntime as ort

from streamdeblur.cache import cache_folder
from streamdeblur.digests import digest_of, digest_of_facts
from streamdeblur.network import nvidia
from streamdeblur.network.catalogue import ModelFiles
from streamdeblur.threads import usable_cores

_FILE = "speeds.json"


def recalled(files: ModelFiles, gpu: int = 0) -> list[tuple[str, str]]:
    """Devices and precisions by what they took, quickest first; empty if that is not known.

    What was measured with other versions, another machine or another model counts for nothing.
    """
    known = _read()
    times = known.get(_key(files, gpu), {}) if known else {}
    return [_pair(name) for name in sorted(times, key=times.__getitem__)]


def remember(files: ModelFiles, times: dict[tuple[str, str], float], gpu: int = 0) -> Path:
    """Keep what each device and precision took, in seconds a frame; where that is written.

    Raises:
        OSError: the cache folder cannot be written.
    """
    known = _read() | {_key(files, gpu): {" ".join(pair): spent for pair, spent in times.items()}}
    path = cache_folder() / _FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{_FILE}.{os.getpid()}.part")
    part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
    os.replace(part, path)
    return path


def processor_name() -> str:
    """As its maker calls it, where the system tells."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _key(files: ModelFiles, number: int) -> str:
    gpu = nvidia.gpu(number)
    facts = {
        "processor": processor_name(),
        "cores": usable_cores(),
        "gpu": [gpu.name, gpu.cuda] if gpu else None,
        "onnxruntime": ort.__version__,
        "plugins": sorted(_plugin_versions()),
        "models": sorted(digest_of(path) for path in files.paths.values()),
    }
    return digest_of_facts(facts)


def _plugin_versions() -> list[str]:
    return [
        f"{each.name} {each.version}"
        for each in metadata.distributions()
        if (each.name or "").startswith("onnxruntime-ep-")
    ]


def _read() -> dict[str, Any]:
    """Nothing if there is no such file, or it is damaged: it can be made again."""
    with suppress(OSError, ValueError):
        known = json.loads((cache_folder() / _FILE).read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return known
    return {}


def _pair(name: str) -> tuple[str, str]:
    device, _, precision = name.partition(" ")
    return device, precision
