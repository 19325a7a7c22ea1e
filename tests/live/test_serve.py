"""What the page's server tells and shows, to many and to slow viewers."""

from __future__ import annotations

import json
import math
import os
import sys
import threading
import time
from itertools import islice
from urllib.parse import urlsplit

import numpy as np
import pytest

from streamdeblur.errors import VideoError
from streamdeblur.live import serve
from streamdeblur.live.serve import ServeSink, Statistics
from streamdeblur.sources import open_source
from tests.live.visitors import (
    CYAN,
    RED,
    Network,
    Viewer,
    ask,
    decoded,
    flat,
    frame,
    is_color,
    post,
)
from tests.patience import eventually


def test_the_state_tells_of_the_run(sink: ServeSink) -> None:
    sink.statistics = Statistics(
        model="tiny", provider="CPUExecutionProvider", rate=24.5, delay_ms=40.0, dropped=3
    )
    assert json.loads(ask(sink)[1]) == {
        "model": "tiny",
        "provider": "CPUExecutionProvider",
        "rate": 24.5,
        "delay_ms": 40.0,
        "dropped": 3,
        "strength": 1.0,
        "frames": 0,
        "pixel_aspect": 1.0,
        "webrtc": sink.notices == (),
    }


def test_mjpeg_shows_before_above_after(sink: ServeSink) -> None:
    sink.write(frame(flat(RED, (47, 63)), flat(CYAN, (47, 63))))  # odd sides are made even
    viewer = Viewer(sink)
    picture = viewer.picture()
    assert picture.shape == (96, 64, 3)
    assert is_color(picture[20, 20], RED)
    assert is_color(picture[60, 20], CYAN)
    viewer.leave()


def test_another_program_reads_the_pictures_in_their_own_time(sink: ServeSink) -> None:
    """MJPEG holds no times, and FFmpeg would take them for 25 a second."""
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), np.uint8)  # soon recognised
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.1):
            sink.write(frame(noise))

    showing = threading.Thread(target=show)
    showing.start()
    with open_source(sink.url + "video.mjpeg") as source:
        frames = list(islice(source, 12))
    over.set()
    showing.join()
    passed = (frames[-1].captured or 0) - (frames[0].captured or 0)
    assert passed > 0.6
    assert float(frames[-1].pts * source.info.time_base) == pytest.approx(passed, abs=0.01)


def test_strength_is_the_networks_both_ways(sink: ServeSink, network: Network) -> None:
    status, state = post(sink, "/strength", {"strength": 0.5})
    assert (status, json.loads(state)["strength"], network.strength) == (200, 0.5, 0.5)
    network.strength = 0.25  # by a key in the window, say
    assert json.loads(ask(sink)[1])["strength"] == 0.25


@pytest.mark.parametrize(
    "fields", [{"strength": value} for value in (2, -0.1, math.nan, "1", None)] + [{}]
)
def test_a_strength_that_is_none_is_refused(
    sink: ServeSink, network: Network, fields: object
) -> None:
    assert post(sink, "/strength", fields)[0] == 400
    assert network.strength == 1


def test_a_form_of_another_page_is_refused(sink: ServeSink) -> None:
    body = b'{"strength": 0}'
    answer = ask(
        sink, "/strength", method="POST", body=body, headers={"Content-Type": "text/plain"}
    )
    assert answer[0] == 415


def test_a_snapshot_is_the_frame_after_to_the_pixel(sink: ServeSink) -> None:
    assert ask(sink, "/snapshot.png")[0] == 503  # nothing to be seen yet
    sharp = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    sink.write(frame(flat(RED), sharp))
    status, data, _ = ask(sink, "/snapshot.png")
    assert status == 200
    np.testing.assert_array_equal(decoded("png", data), sharp)


def test_many_viewers_come_and_go_and_leave_nothing_behind(sink: ServeSink) -> None:
    def open_files() -> int:
        return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0

    sink.write(frame(flat(RED)))
    before = open_files()
    for _ in range(5):
        viewers = [Viewer(sink) for _ in range(8)]
        for viewer in viewers:
            assert is_color(viewer.picture()[20, 20], RED)
        for viewer in viewers:
            viewer.leave()
    # Though no frame comes that would show that they are gone.
    eventually(lambda: open_files() <= before, f"{open_files()} open files, {before} before")


def test_a_viewer_who_stalls_slows_neither_the_run_nor_others_and_is_let_go(
    sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (480, 640, 3), np.uint8)
    stalled, other = Viewer(sink), Viewer(sink)
    began = time.monotonic()
    for _ in range(100):
        sink.write(frame(noise))
    assert time.monotonic() - began < 4  # less than one wait for the stalled one
    monkeypatch.setattr(serve, "SECONDS_UNTIL_STALLED", 0.3)
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.02):
            sink.write(frame(noise))

    running = threading.Thread(target=run)
    running.start()
    try:
        for _ in range(5):
            other.picture()
        other.leave()
        eventually(lambda: not sink._viewers, "the stalled viewer stays")
    finally:
        stop.set()
        running.join()
    assert stalled.left_bytes() < 4_000_000  # what lay in the network's buffers
    stalled.leave()


def test_a_slow_viewer_sees_the_newest_and_not_all(sink: ServeSink) -> None:
    noise = np.random.default_rng(0).integers(0, 200, (240, 320, 3), np.uint8)
    sink.write(frame(noise))
    viewer = Viewer(sink)
    viewer.picture()
    for _ in range(100):
        sink.write(frame(noise))
        time.sleep(0.01)
    sink.write(frame(flat(CYAN, (240, 320))))
    seen = 1
    while not is_color(viewer.picture()[20, 20], CYAN):
        seen += 1
    assert seen < 60
    viewer.leave()


def test_closing_parts_from_viewers_and_ends_the_thread() -> None:
    threads = threading.active_count()
    sink = ServeSink(Network())
    sink.write(frame(flat(RED)))
    viewer = Viewer(sink)
    viewer.picture()
    assert not sink.closed
    sink.close()
    sink.close()
    assert sink.closed
    assert threading.active_count() <= threads
    with pytest.raises((EOFError, ConnectionError)):
        viewer.picture()
    viewer.leave()
    sink.write(frame(flat(RED)))  # harmless
    with pytest.raises(ConnectionError):
        ask(sink)


def test_addresses_that_cannot_be_served_on_are_explained(sink: ServeSink) -> None:
    taken = urlsplit(sink.url).port or 0
    with pytest.raises(VideoError, match=f"cannot serve on 127.0.0.1:{taken}: .*in use; choose"):
        ServeSink(Network(), port=taken)
    with pytest.raises(VideoError, match=r"203\.0\.113\.9:8000: this computer does not have that"):
        ServeSink(Network(), "203.0.113.9", 8000)
    with pytest.raises(VideoError, match=r"no address is known for nosuch\.invalid; use"):
        ServeSink(Network(), "nosuch.invalid", 8000)
