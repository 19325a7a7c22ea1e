"""The report in a real browser: what a person sees there; and what it costs while it is made."""

from __future__ import annotations

import shutil
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from streamdeblur.account import Account, Point
from streamdeblur.arguments import parse
from streamdeblur.cli import main
from streamdeblur.frames import Image
from streamdeblur.report import clock, page
from tests.conftest import ClipMaker
from tests.test_batch import photo
from tests.tiny_onnx import identity

Capture = pytest.CaptureFixture[str]


def account(path: str = "a.mp4") -> Account:
    return Account(Path(path), Path("b.mp4"), seconds_a_tick=0.04)


def noise(seed: int, size: tuple[int, int] = (32, 48)) -> Image:
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def changed(image: Image, by: int) -> Image:
    return np.clip(image.astype(int) + by, 0, 255).astype(np.uint8)


def test_the_frames_that_changed_most_are_kept_apart_from_each_other() -> None:
    told, image = account(), np.full((32, 48, 3), 100, np.uint8)
    strong = {20: 30, 21: 29, 90: 20, 150: 40, 151: 41}
    for frame in range(200):
        told.add(image, changed(image, strong.get(frame, 2)), float(frame))
    kept = {moment.time: round(moment.change) for moment in told.moments}
    assert len(kept) == 4
    assert kept[20.0] == 30
    assert kept[90.0] == 20
    assert {150.0: 40, 151.0: 41}.items() & kept.items()
    times = sorted(kept)
    assert min(np.diff(times)) > 0.05 * 150


def test_the_curve_holds_all_frames_in_few_points() -> None:
    told = account()
    for frame in range(12_345):
        told._extend(Point(1, float(frame), float(frame % 100), 1.0))
    assert 150 < len(told.points) <= 401
    assert sum(point.frames for point in told.points) == 12_345
    assert told.points[0].time == 0
    assert told.before == pytest.approx(np.mean(np.arange(12_345) % 100))
    assert told.after == 1


def test_memory_does_not_grow_with_the_frames() -> None:
    told = account()
    pictures = [noise(seed) for seed in range(8)]
    sizes = []
    tracemalloc.start()
    for frame in range(900):
        image = pictures[frame % 8]
        told.add(image, changed(image, frame % 50), float(frame))
        if frame in (300, 899):
            sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert sizes[1] - sizes[0] < 100_000


def test_large_pictures_are_shown_in_part_where_they_changed_most() -> None:
    image = np.full((1500, 2600, 3), 90, np.uint8)
    sharp = image.copy()
    sharp[1400:1432, 2400:2432] = 200
    told = account()
    told.add(image, sharp, 0.0)
    (moment,) = told.moments
    assert (moment.size, moment.is_part) == ((1280, 720), True)
    from pyvips import Image as Reader

    after = Reader.new_from_buffer(moment.after, "").numpy()
    before = Reader.new_from_buffer(moment.before, "").numpy()
    assert np.abs(after.astype(int) - before).max() > 90


def test_frames_are_shown_upright() -> None:
    from pyvips import Image as Reader

    image = np.zeros((40, 80, 3), np.uint8)
    image[:20, :40] = 200  # at the top left
    told = account()
    told.turns = -1  # which viewers turn to the right
    told.add(image, image, 0.0)
    (moment,) = told.moments
    assert moment.size == (40, 80)
    assert Reader.new_from_buffer(moment.after, "").numpy()[10, 30, 0] > 190


def test_the_strength_that_is_written_is_the_one_that_is_shown() -> None:
    told = Account(Path("a.mp4"), Path("b.mp4"), strength=0.5)
    image = np.full((32, 48, 3), 100, np.uint8)
    told.add(image, changed(image, 40), 0.0)
    assert round(told.moments[0].change) == 20


def test_moments_as_people_write_them() -> None:
    seconds = (0, 59.96, 61.04, 3723.4, -0.5)
    assert [clock(each) for each in seconds] == [
        "0:00.0",
        "1:00.0",
        "1:01.0",
        "1:02:03.4",
        "-0:00.5",
    ]


def test_names_cannot_become_markup() -> None:
    told = account('<script>alert("x")</script>$policy.mp4')
    told.add(noise(0), noise(1), 0.0)
    told.notices.append("<b>lost</b>")
    text = page([told], parse(["x.mp4"]))
    assert text.count("<script>") == 1
    assert "<b>lost" not in text
    assert "$policy.mp4" in text


def test_a_file_and_its_report(
    make_clip: ClipMaker, model: str, tmp_path: Path, capfd: Capture
) -> None:
    clip = make_clip(
        "clip.mkv", pts=range(30), audio=True, attachment=True, metadata={"title": "x"}
    )
    target = tmp_path / "out.html"
    output = tmp_path / "out.mp4"
    assert main([str(clip), "-m", model, "-o", str(output), "--report", str(target)]) == 0
    text = target.read_text(encoding="utf-8")
    for words in (
        "64x48 h264 yuv420p, 25 frames/s",
        "model tiny, fp32, on CPUExecutionProvider",
        "attachment",  # cannot be kept in mp4
        "aac, 48000 Hz, mono",
        "<svg",
        "data:image/jpeg;base64,",
        "None was met.",
        "--strength</th><td>1.0",
    ):
        assert words in text, words
    assert "http://" not in text.replace("http://www.w3.org", "")
    assert "https://" not in text
    capfd.readouterr()
    assert main([str(clip), "-m", model, "-fo", str(output), "--report", str(target)]) == 0
    arguments = [str(clip), "-m", model, "-o", str(tmp_path / "2.mp4"), "--report", str(target)]
    assert main(arguments) == 1
    assert "out.html exists; pass --overwrite" in capfd.readouterr().err
    assert not (tmp_path / "2.mp4").exists()


@pytest.mark.parametrize(
    ("name", "words"), [("r.txt", "must end in .html"), ("no/r.html", "such a folder")]
)
def test_a_report_that_cannot_be_is_refused_before_the_work(
    name: str, words: str, make_clip: ClipMaker, model: str, tmp_path: Path, capfd: Capture
) -> None:
    clip = make_clip()
    assert main([str(clip), "-m", model, "--report", str(tmp_path / name)]) == 1
    assert words in capfd.readouterr().err
    assert not clip.with_name("clip.deblurred.mp4").exists()


def test_damage_is_told_and_failure_leaves_no_report(
    make_clip: ClipMaker, model: str, tmp_path: Path
) -> None:
    clip = make_clip("clip.mkv", pts=range(60))
    whole = clip.read_bytes()
    clip.write_bytes(whole[: len(whole) // 2])
    target = tmp_path / "r.html"
    assert main([str(clip), "-m", model, "--report", str(target)]) in (0, 1)
    assert "None was met" not in target.read_text(encoding="utf-8")
    target.unlink()
    (tmp_path / "no.mp4").write_text("This is no video.\n" * 50)
    assert main([str(tmp_path / "no.mp4"), "-m", model, "--report", str(target)]) == 1
    assert not target.exists()


def test_one_report_for_many_files(
    make_clip: ClipMaker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same.onnx").write_bytes(identity())
    for index in range(20):
        photo(f"in/{index}a.png", 10 * index)
    make_clip("in.mp4").rename("in/clip.mp4")
    Path("in/bad.jpg").write_bytes(b"no")
    assert main(["in", "-m", "same.onnx", "--report", "r.html", "--quiet"]) == 1
    text = Path("r.html").read_text(encoding="utf-8")
    assert text.count('class="pair"') == 12
    assert text.count("<tr><td>") == 22
    assert "is it a whole JPEG, PNG" in text
    assert "<h1>22 files</h1>" in text


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver")
    from selenium.webdriver.chrome.service import Service

    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("needs chromium and chromedriver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in ("--headless", "--no-sandbox", "--disable-gpu", "--window-size=1300,900"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    running = webdriver.Chrome(options=options, service=Service(driver))
    yield running
    running.quit()


def test_the_divider_moves_and_the_policy_lets_nothing_else_run(
    browser: Any, tmp_path: Path
) -> None:
    import av
    from selenium.webdriver import Keys
    from selenium.webdriver.common.by import By

    told = account()
    before, after = (np.full((240, 320, 3), shade, np.uint8) for shade in (40, 200))
    for time in range(5):
        told.add(before, after, float(time))
    target = tmp_path / "r.html"
    target.write_text(page([told], parse(["x.mp4"])), encoding="utf-8")
    browser.get_log("browser")
    browser.get(target.as_uri())
    pair = browser.find_element(By.CLASS_NAME, "pair")

    def shades() -> tuple[int, int]:
        """At a quarter and at three quarters of the picture's width."""
        box = browser.execute_script("return arguments[0].getBoundingClientRect().toJSON()", pair)
        shot = av.CodecContext.create("png", "r").decode(av.Packet(browser.get_screenshot_as_png()))
        row = shot[0].to_ndarray(format="gray")[int(box["y"] + box["height"] / 4)]
        first, second = (int(row[int(box["x"] + part * box["width"])]) for part in (0.25, 0.75))
        return first, second

    slider = pair.find_element(By.TAG_NAME, "input")
    assert np.abs(np.subtract(shades(), (40, 200))).max() < 6
    slider.send_keys(Keys.HOME)
    assert np.abs(np.subtract(shades(), (200, 200))).max() < 6
    slider.send_keys(Keys.END)
    assert np.abs(np.subtract(shades(), (40, 40))).max() < 6

    lines = browser.find_elements(By.CSS_SELECTOR, "svg polyline")
    assert [line.get_attribute("class") for line in lines] == ["curve before", "curve after"]
    assert all(len(line.get_attribute("points").split()) == 5 for line in lines)
    complaints = [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    assert complaints == []
    intruder = (
        "const s = document.createElement('script'); s.text = 'window.ran = true';"
        "document.head.append(s); return window.ran"
    )
    assert browser.execute_script(intruder) is None


def test_names_that_are_no_text_are_shown_as_far_as_they_can_be() -> None:
    told = account("bad\udcff.mkv")
    told.facts["model"] = "x"
    assert "bad?.mkv" in page([told], parse(["x.mp4"]))
