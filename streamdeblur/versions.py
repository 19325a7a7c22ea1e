"""Which version of a package is installed."""

from __future__ import annotations

from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def installed(package: str) -> str | None:
    """Its version, or None if it is not installed: run from a checkout, we may not be."""
    with suppress(PackageNotFoundError):
        return version(package)
    return None
