"""Servers of the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from streamdeblur.live.serve import ServeSink
from tests.live.visitors import Network


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def sink(network: Network) -> Iterator[ServeSink]:
    with ServeSink(network) as sink:
        yield sink


@pytest.fixture
def open_sink() -> Iterator[ServeSink]:
    """One that other computers could reach."""
    with ServeSink(Network(), "0.0.0.0") as sink:
        yield sink
