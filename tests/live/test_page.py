"""The page in a real browser, by WebRTC and by MJPEG: what a person sees there, and does."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

import av
import numpy as np
import pytest

from tests.live.visitors import Network
from tests.patience import eventually

pytest.importorskip("selenium")

from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.select import Select

from streamdeblur.correction import blended
from streamdeblur.frames import Frame
from streamdeblur.live.serve import ServeSink, Statistics

BEFORE, AFTER = (200, 40, 40), (40, 160, 60)
SWITCHES = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=900,700",
]
WAYS = [
    pytest.param(
        "webrtc", marks=pytest.mark.skipif(not find_spec("aiortc"), reason="needs aiortc")
    ),
    "mjpeg",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    program, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (program and driver):
        pytest.skip("needs chromium and chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = program
    profile = tmp_path_factory.mktemp("profile")
    for switch in [*SWITCHES, f"--user-data-dir={profile}"]:
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


@contextmanager
def running(
    network: Network, host: str = "127.0.0.1", port: int = 0, pixel_aspect: float = 1.0
) -> Iterator[ServeSink]:
    """Frames come, some with another shade so that coders of video have work."""
    stop = threading.Event()

    def run() -> None:
        shade = 0
        while not stop.wait(0.05):
            shade = (shade + 1) % 6
            images = [np.full((120, 160, 3), color, np.uint8) + shade for color in (BEFORE, AFTER)]
            sharp = blended(*images, network.strength)
            sink.write(Frame(av.VideoFrame(2, 2, "rgb24"), images[0], 0, sharp))

    thread = threading.Thread(target=run)
    with ServeSink(network, host, port, pixel_aspect=pixel_aspect) as sink:
        thread.start()
        try:
            yield sink
        finally:
            stop.set()
            thread.join()


@pytest.fixture
def sink(network: Network) -> Iterator[ServeSink]:
    with running(network) as sink:
        sink.statistics = Statistics(
            model="tiny", provider="CUDAExecutionProvider", rate=19.96, delay_ms=41.7, dropped=7
        )
        yield sink


def text(browser: webdriver.Chrome, name: str) -> str:
    return browser.find_element(By.ID, name).text


def way(browser: webdriver.Chrome) -> str:
    return Select(browser.find_element(By.ID, "way")).first_selected_option.get_property("value")


def color(browser: webdriver.Chrome, across: float) -> tuple[int, ...]:
    """What the screen shows in the upper part of the picture, `across` 0 left to 1 right."""
    box = browser.execute_script("return canvas.getBoundingClientRect().toJSON()")
    shot = av.CodecContext.create("png", "r").decode(av.Packet(browser.get_screenshot_as_png()))
    pixels = shot[0].to_ndarray(format="rgb24")
    x, y = box["x"] + across * box["width"], box["y"] + 0.2 * box["height"]
    return tuple(int(value) for value in pixels[int(y), int(x)])


def shows(browser: webdriver.Chrome, **expected: tuple[int, int, int]) -> None:
    """Wait until the picture has the colours `left` at a quarter and `right` at three quarters."""
    places = {"left": 0.25, "right": 0.75}

    def seen() -> dict[str, tuple[int, ...]]:
        return {side: color(browser, places[side]) for side in expected}

    eventually(
        lambda: all(
            np.abs(np.subtract(is_, expected[side])).max() <= 16 for side, is_ in seen().items()
        ),
        lambda: f"the page shows {seen()}, status {text(browser, 'status')}",
    )


def open_page(browser: webdriver.Chrome, url: str, way_wanted: str) -> None:
    browser.get_log("browser")
    browser.get(url)
    Select(browser.find_element(By.ID, "way")).select_by_value(way_wanted)
    shows(browser, left=BEFORE, right=AFTER)


@pytest.mark.parametrize("way_wanted", WAYS)
def test_divider_and_strength_change_what_is_seen(
    browser: webdriver.Chrome, sink: ServeSink, network: Network, way_wanted: str
) -> None:
    open_page(browser, sink.url, way_wanted)
    is_video = browser.execute_script("return picture === video")
    assert (way(browser), is_video) == (way_wanted, way_wanted == "webrtc")

    split = browser.find_element(By.ID, "split")
    split.send_keys(Keys.HOME)
    shows(browser, left=AFTER, right=AFTER)
    split.send_keys(Keys.END)
    shows(browser, left=BEFORE, right=BEFORE)
    width = browser.execute_script("return canvas.getBoundingClientRect().width")
    drag = ActionChains(browser).move_to_element(browser.find_element(By.ID, "canvas"))
    drag.click_and_hold().move_by_offset(int(-0.4 * width), 0).release().perform()
    shows(browser, left=AFTER, right=AFTER)
    assert split.get_attribute("aria-valuetext") == "10 percent before"

    strength = browser.find_element(By.ID, "strength")
    strength.send_keys(Keys.HOME)
    shows(browser, left=BEFORE, right=BEFORE)
    assert (network.strength, text(browser, "percent")) == (0, "0 %")
    strength.send_keys(Keys.END)
    shows(browser, left=AFTER, right=AFTER)
    assert network.strength == 1

    complaints = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert complaints == []  # of the content policy, above all


def test_the_page_tells_of_the_run_and_of_other_viewers_wishes(
    browser: webdriver.Chrome, sink: ServeSink, network: Network
) -> None:
    open_page(browser, sink.url, "mjpeg")
    eventually(lambda: text(browser, "status") == "live", lambda: text(browser, "status"))
    names = ("rate", "delay", "dropped", "size", "model")
    assert [text(browser, name) for name in names] == [
        "20.0", "42 ms", "7", "160 \N{MULTIPLICATION SIGN} 120", "tiny on CUDA",
    ]  # fmt: skip
    network.strength = 0.25
    eventually(lambda: text(browser, "percent") == "25 %")


@pytest.mark.parametrize("way_wanted", WAYS)
def test_pixels_that_are_not_square_are_shown_as_wide_as_they_are(
    browser: webdriver.Chrome, way_wanted: str
) -> None:
    with running(Network(), pixel_aspect=1.5) as sink:
        open_page(browser, sink.url, way_wanted)

        def ratio() -> float:
            box = browser.execute_script("return canvas.getBoundingClientRect().toJSON()")
            return float(box["width"] / box["height"])

        eventually(lambda: abs(ratio() - 1.5 * 160 / 120) < 0.02, lambda: str(ratio()))


def test_a_snapshot_is_saved(browser: webdriver.Chrome, sink: ServeSink, tmp_path: Path) -> None:
    open_page(browser, sink.url, "mjpeg")
    browser.execute_cdp_cmd(
        "Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)}
    )
    browser.find_element(By.ID, "snapshot").click()
    eventually(lambda: len(list(tmp_path.glob("streamdeblur-*.png"))) == 1)
    (saved,) = tmp_path.iterdir()
    (picture,) = av.CodecContext.create("png", "r").decode(av.Packet(saved.read_bytes()))
    pixel = picture.to_ndarray(format="rgb24")[60, 80]
    assert np.abs(pixel.astype(int) - AFTER).max() <= 6


@pytest.mark.parametrize("way_wanted", WAYS)
def test_the_token_opens_all_of_the_page_and_nothing_else_does(
    browser: webdriver.Chrome, way_wanted: str
) -> None:
    with running(Network(), "0.0.0.0") as sink:
        address = urlsplit(sink.url)
        local = f"http://127.0.0.1:{address.port}/"
        open_page(browser, f"{local}?{address.query}", way_wanted)
        browser.get(local)
        assert "the token is missing" in browser.find_element(By.TAG_NAME, "body").text


def test_a_page_of_an_earlier_run_says_that_its_token_is_old(browser: webdriver.Chrome) -> None:
    with running(Network(), "0.0.0.0") as sink:
        address = urlsplit(sink.url)
        open_page(browser, f"http://127.0.0.1:{address.port}/?{address.query}", "mjpeg")
    with running(Network(), "0.0.0.0", address.port or 0):
        eventually(lambda: "token is missing or wrong" in text(browser, "status"))


def test_where_webrtc_does_not_get_through_there_is_mjpeg(
    browser: webdriver.Chrome, sink: ServeSink, monkeypatch: pytest.MonkeyPatch
) -> None:
    webrtc = pytest.importorskip("streamdeblur.live.webrtc")

    async def fail(*_: object) -> str:
        raise ValueError("no")

    monkeypatch.setattr(webrtc.Peers, "answer", fail)
    browser.get(sink.url)
    shows(browser, left=BEFORE, right=AFTER)
    assert way(browser) == "mjpeg"
    eventually(lambda: "WebRTC does not get through" in text(browser, "status"))


@pytest.mark.parametrize("way_wanted", WAYS)
def test_the_page_goes_on_when_the_program_comes_back(
    browser: webdriver.Chrome, way_wanted: str
) -> None:
    with running(Network()) as sink:
        port = urlsplit(sink.url).port or 0
        open_page(browser, sink.url, way_wanted)
    eventually(lambda: "connection lost" in text(browser, "status"))
    with running(Network(0.0), port=port):
        shows(browser, left=BEFORE, right=BEFORE)
        eventually(lambda: text(browser, "status").startswith("live"))


def test_another_page_sees_nothing(
    browser: webdriver.Chrome, sink: ServeSink, tmp_path: Path
) -> None:
    stranger = tmp_path / "stranger.html"
    stranger.write_text(
        f"<img id=i src='{sink.url}snapshot.png'><iframe src='{sink.url}'></iframe>"
    )
    open_page(browser, sink.url, "mjpeg")
    browser.get(stranger.as_uri())
    assert browser.execute_script("return [i.complete, i.naturalWidth]") == [True, 0]
    browser.switch_to.frame(0)
    assert browser.find_elements(By.ID, "canvas") == []
    browser.switch_to.default_content()
