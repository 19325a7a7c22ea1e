"""Keeping up: half resolution, and when the network steps down and up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streamdeblur.correction import blended
from streamdeblur.frames import Frame, Image
from streamdeblur.live import rhythm
from streamdeblur.live.delays import Delays
from streamdeblur.live.rhythm import (
    AdaptiveNetwork,
    Choice,
    choices_of,
    doubled,
    halved,
    sharpened_at_half,
)


class World:
    """Time that passes only when someone works or waits, so that no machine is too slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(rhythm, "time", SimpleNamespace(monotonic=lambda: self.now))

    def network(self, name: str, seconds: float) -> Any:
        """Stands in for a network that takes so long for a picture of 64x48, and inverts it."""

        def sharpen(image: Image) -> Image:
            self.now += network.seconds * image.shape[0] / 48
            return 255 - image

        network = _Slow(sharpen)
        network.seconds, network.spec = seconds, SimpleNamespace(name=name)
        return network

    def frames(self, count: int, interval: float = 0.04, waited: float = 0.0) -> Iterator[Frame]:
        """One each `interval`, or when it is asked for if that is later; the newest wins."""
        due = self.now
        for number in range(count):
            due = max(due + interval, self.now)
            captured, self.now = due - waited, due
            picture = av.VideoFrame(64, 48, "rgb24")
            image = np.zeros((48, 64, 3), np.uint8)
            yield Frame(picture, image, number, captured=captured)


class _Slow:
    seconds: float
    spec: Any

    def __init__(self, call: Any) -> None:
        self._call = call

    def __call__(self, image: Image) -> Any:
        return self._call(image)


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def run(network: AdaptiveNetwork, frames: Iterator[Frame]) -> list[str]:
    """Send the frames through; what was announced meanwhile."""
    for frame in network.stream(frames):
        assert frame.sharp is not None
    said = list(network.messages)
    network.messages.clear()
    return said


def test_a_network_that_keeps_up_stays(world: World) -> None:
    network = AdaptiveNetwork(choices_of(world.network("big", 0.03), world.network("fast", 0.01)))
    assert run(network, world.frames(1000)) == []
    assert network.choice.name == "big"


def test_one_that_cannot_steps_down_as_far_as_it_must(world: World) -> None:
    network = AdaptiveNetwork(choices_of(world.network("big", 0.5), world.network("fast", 0.06)))
    said = run(network, world.frames(100))
    assert said == [
        "big takes 500 ms a frame and can't keep up: going on with fast",
        "fast takes 60 ms a frame and can't keep up: going on with fast at half resolution",
    ]
    assert network.choice == Choice(network.choice.network, is_half=True)


def test_what_is_too_slow_for_everything_says_so_once(world: World) -> None:
    network = AdaptiveNetwork([Choice(world.network("big", 0.3))])
    assert run(network, world.frames(100)) == [
        "big takes 300 ms a frame and can't keep up, and there is nothing quicker"
    ]


def test_it_steps_up_again_when_there_is_room(world: World) -> None:
    big = world.network("big", 0.1)
    network = AdaptiveNetwork(choices_of(big, world.network("fast", 0.01)))
    assert len(run(network, world.frames(100))) == 1
    big.seconds = 0.02  # whatever took the processor has ended
    assert run(network, world.frames(6000)) == ["there is room again: back to big"]
    assert network.choice.name == "big"


def test_it_does_not_flutter(world: World) -> None:
    network = AdaptiveNetwork(choices_of(world.network("big", 0.05), world.network("fast", 0.01)))
    said = run(network, world.frames(30 * 60 * 25))  # half an hour
    assert len(said) <= 12


def test_a_delay_beyond_the_limit_steps_down_too(world: World) -> None:
    choices = choices_of(world.network("big", 0.03), world.network("fast", 0.001))
    network = AdaptiveNetwork(choices, max_latency=0.1)
    assert run(network, world.frames(200, waited=0.02)) == []
    said = run(network, world.frames(200, waited=0.08))
    assert said[0] == "big leads to a delay of 110 ms: going on with fast"


def test_other_choices_are_taken_from_the_next_frame_on(world: World) -> None:
    network = AdaptiveNetwork([Choice(world.network("big", 0.001))])
    network.use([Choice(world.network("other", 0.001))])
    run(network, world.frames(1))
    assert network.choice.name == "other"


@pytest.mark.parametrize(("strength", "level"), [(0.0, 0), (0.5, 128), (1.0, 255)])
def test_strength_reaches_every_frame(world: World, strength: float, level: int) -> None:
    network = AdaptiveNetwork([Choice(world.network("big", 0.001))], strength=strength)
    for frame in network.stream(world.frames(2)):
        assert frame.sharp is not None
        assert np.all(frame.sharp == level)


def test_half_resolution_keeps_the_detail_of_the_whole() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(40, 200, (47, 63, 3)).astype(np.uint8)

    def brighter(half: Image) -> NDArray[np.uint8]:
        assert half.shape == (24, 32, 3)
        return half + np.uint8(9)

    sharp = sharpened_at_half(brighter, image)  # type: ignore[arg-type]
    assert np.array_equal(sharp, image + 9)


@given(st.integers(1, 9), st.integers(1, 9), st.integers(-255, 255))
def test_what_is_even_stays_so_at_any_size(height: int, width: int, level: int) -> None:
    image = np.full((height, width, 3), abs(level), np.uint8)
    assert np.all(halved(image) == abs(level))
    assert halved(image).shape == ((height + 1) // 2, (width + 1) // 2, 3)
    change = np.full((height, width, 3), level, np.int16)
    assert np.all(doubled(change) == level)
    assert doubled(change).shape == (2 * height, 2 * width, 3)


def test_a_slope_is_doubled_to_a_slope() -> None:
    slope = np.repeat(np.arange(0, 160, 8, dtype=np.int16)[None, :, None], 3, axis=2)
    inner = doubled(slope)[0, 1:-1, 0]
    assert set(np.diff(inner)) == {4}


def test_blending_rounds_to_the_nearest() -> None:
    image = np.array([[[10, 200, 0]]], np.uint8)
    sharp = np.array([[[20, 100, 255]]], np.uint8)
    assert blended(image, sharp, 0.5).tolist() == [[[15, 150, 128]]]
    assert blended(image, sharp, 0.0).tolist() == image.tolist()
    assert blended(image, sharp, 1.0) is sharp


def test_delays_are_summed_up() -> None:
    delays = Delays()
    assert (delays.percentile(0.5), delays.recent(0.5)) == (0, 0)
    for milliseconds in range(1, 101):
        delays.add(milliseconds / 1000)
    assert (delays.percentile(0.5), delays.percentile(0.95)) == (50, 95)
    assert str(delays) == "50 ms (95 %: 95 ms)"
    assert delays.recent(0.5) == pytest.approx(71)  # of the last 60


def test_delays_take_no_more_memory_with_time() -> None:
    delays = Delays()
    began = time.monotonic()
    for number in range(100_000):
        delays.add((number % 50) / 1000)
    assert delays.count == 100_000
    assert len(delays._counts) == 50
    assert time.monotonic() - began < 30
