"""Render the sample clips: a hand-held camera looks at photographs, and its exposure blurs them.

Nothing is blurred by a filter. As in a camera, the light of many moments is added up while the
shutter is open: 960 sub-frames a second, averaged in linear light over nine tenths of each frame.
The sharp twin of a clip shows the moment in the middle of each exposure, with the same sound.

    pip install scikit-image scikit-learn      # for the photographs that they contain
    python samples/make_clips.py               # writes beside this script, in a minute or two

README.md names the authors and licences of the photographs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import av
import cv2
import numpy as np
from av.video.reformatter import ColorRange, Colorspace
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Light = NDArray[np.float32]
"""Linear light in [0, 1], shape (H, W, 3), or (H, W, 4) with colour premultiplied by alpha."""

SUBFRAMES_PER_SECOND = 960  # the fastest motion moves by less than a pixel from one to the next
SHUTTER = 0.9  # open for this share of a frame, as phones have it indoors and at dusk
SAMPLE_RATE = 48_000
BT709 = 1  # ITU-T H.273: primaries, transfer and matrix share the number


@dataclass(frozen=True)
class Pose:
    """Where the camera points: the canvas point at the picture's centre, in canvas pixels."""

    x: float
    y: float
    angle: float = 0.0
    """Degrees, clockwise."""
    zoom: float = 1.0
    """Output pixels per canvas pixel."""


@dataclass(frozen=True)
class Clip:
    """All that a pair of files is rendered from; time is in seconds."""

    name: str
    size: tuple[int, int]
    """Width and height."""
    rate: int
    """Frames per second."""
    seconds: float
    layers: list[tuple[Light, Callable[[float], Pose]]]
    """From back to front: a picture, and the camera's pose towards it at a time."""
    sound: NDArray[np.float32]
    """Shape (2, samples)."""
    still: int
    """Which blurred frame is also written as a picture."""
    credits: str


def main() -> None:
    """Render what the command line asks for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("clips", nargs="*", help=f"which ones: {', '.join(CLIPS)} (default: all)")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path(__file__).parent, help="folder to write to"
    )
    parser.add_argument("--seconds", type=float, help="stop early, to try things out")
    options = parser.parse_args()
    for name in options.clips or CLIPS:
        if name not in CLIPS:
            parser.error(f"no clip {name!r}: there are {', '.join(CLIPS)}")
        clip = CLIPS[name]()
        seconds = min(options.seconds or clip.seconds, clip.seconds)
        pairs = list(exposures(clip, round(seconds * clip.rate)))
        blurred, sharp = ([pair[which] for pair in pairs] for which in (0, 1))
        sound = clip.sound[:, : int(seconds * SAMPLE_RATE)]
        for path, pictures in (
            (options.output / f"{name}.mp4", blurred),
            (options.output / f"{name}-sharp.mp4", sharp),
        ):
            write(path, clip, pictures, sound)
            print(f"{path}: {len(pictures)} frames, {path.stat().st_size / 1e6:.2f} MB")
        still = blurred[min(clip.still, len(blurred) - 1)]
        Image.fromarray(still).save(
            options.output / f"{name}.jpg", quality=92, comment=clip.credits
        )


def exposures(clip: Clip, count: int) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8]]]:
    """Yield each frame as the camera records it, and the moment in the middle of its exposure."""
    half = int(SHUTTER * SUBFRAMES_PER_SECOND / clip.rate / 2)
    moments = np.arange(-half, half + 1) / SUBFRAMES_PER_SECOND
    for frame in range(count):
        middle = (frame + 0.5) / clip.rate
        light = np.asarray(sum(seen(clip, middle + moment) for moment in moments)) / len(moments)
        yield to_display(light), to_display(seen(clip, middle))


def seen(clip: Clip, time: float) -> Light:
    """What the camera sees at an instant."""
    (back, pose_at), *others = clip.layers
    view = warp(back, pose_at(time), clip.size)
    for canvas, pose_at in others:
        *colours, alpha = cv2.split(warp(canvas, pose_at(time), clip.size))
        view *= 1 - cv2.merge([alpha] * 3)
        view += cv2.merge(colours)
    return view


def warp(canvas: Light, pose: Pose, size: tuple[int, int]) -> Light:
    """The part of the canvas that a pose shows; canvases with alpha are empty beyond their edge."""
    matrix = np.asarray(cv2.getRotationMatrix2D((pose.x, pose.y), pose.angle, pose.zoom), float)
    matrix[:, 2] += np.array(size) / 2 - (pose.x, pose.y)
    border = cv2.BORDER_CONSTANT if canvas.shape[2] == 4 else cv2.BORDER_REFLECT_101
    view = cv2.warpAffine(canvas, matrix, size, flags=cv2.INTER_CUBIC, borderMode=border)
    return np.asarray(view, np.float32)


def tremor(time: float, seed: int, speed: float) -> float:
    """A hand that shakes: a sum of sines between 2 and 8 Hz, of `speed` pixels a second (RMS)."""
    random = np.random.default_rng(seed)
    rates = 2 * np.pi * random.uniform(2, 8, 6)
    return float(np.sum(speed / 3**0.5 / rates * np.sin(rates * time + random.uniform(0, 6.28, 6))))


def jolt(time: float, starts: tuple[float, ...], size: float) -> float:
    """A step or a bump: swings of 5 Hz, `size` pixels wide at first, that die down."""
    since = np.array([time - start for start in starts if time > start])
    return float(np.sum(size * np.exp(-since / 0.13) * np.sin(2 * np.pi * 5 * since)))


def ease(time: float, start: float, end: float) -> float:
    """From 0 before `start` to 1 after `end`, without a jerk."""
    share = min(max((time - start) / (end - start), 0.0), 1.0)
    return share * share * (3 - 2 * share)


def pavilion() -> Clip:
    """A pavilion over a lake, seen past a flower that is near and so moves twice as far."""
    bumps = (1.1, 3.05)

    def shake(time: float) -> float:  # calm at the start, and again after two seconds
        calm = ease(time, 0.3, 0.8) - ease(time, 1.7, 2.0) + ease(time, 2.4, 2.8)
        return 0.04 + 0.96 * calm

    def tilt(time: float) -> float:
        return 176 + 62 * ease(time, 0.3, 3.8)

    def camera(time: float) -> Pose:
        return Pose(
            318 + shake(time) * tremor(time, 1, 230) - 0.4 * jolt(time, bumps, 11),
            shake(time) * tremor(time, 2, 180) + jolt(time, bumps, 11) + tilt(time),
            shake(time) * tremor(time, 3, 12),
            1.2 + 0.001 * shake(time) * tremor(time, 4, 80) + 0.1 * ease(time, 1.5, 4),
        )

    def towards_flower(time: float) -> Pose:
        view = camera(time)
        sway = 9 * np.sin(2 * np.pi * 0.6 * time)
        x, y = 2 * (view.x - 318), 2 * (view.y - tilt(time))
        return Pose(20 + x + sway, 38 + y, view.angle + sway / 3, 0.62 * view.zoom)

    melody = [(523.3, 0.0), (659.3, 0.4), (784.0, 0.8), (880.0, 1.2), (784.0, 1.6), (587.3, 2.0),
              (659.3, 2.4), (523.3, 2.8), (392.0, 3.0), (440.0, 3.4), (523.3, 3.6)]  # fmt: skip
    return Clip(
        name="pavilion",
        size=(640, 360),
        rate=30,
        seconds=4,
        layers=[
            (to_light(photograph("sklearn/datasets/images/china.jpg")), camera),
            (cut_out_flower(photograph("sklearn/datasets/images/flower.jpg")), towards_flower),
        ],
        sound=notes(4, [(pitch, start, 0.5, 0.35) for pitch, start in melody]),
        still=26,
        credits="Photographs by danielbuechele and vultilion, both CC BY 2.0; changed: camera"
        " motion added, flower cut out",
    )


def gallery() -> Clip:
    """From picture to picture along the wall of an exhibition, step by step."""
    steps = (0.5, 1.0, 1.5, 2.4, 2.9, 3.4)

    def camera(time: float) -> Pose:
        walk = ease(time, 0.4, 1.8) + ease(time, 2.3, 3.7)
        busy = ease(time, 0.3, 0.7) - ease(time, 1.5, 1.9) + ease(time, 2.2, 2.6)
        shake = 0.06 + 0.94 * busy
        return Pose(
            330 + 435 * walk + shake * tremor(time, 11, 60),
            308 + shake * tremor(time, 12, 80) + jolt(time, steps, 7),
            shake * tremor(time, 13, 8) - 0.06 * jolt(time, steps, 7),
            1.03 + 0.03 * np.sin(time) + 0.001 * shake * tremor(time, 14, 60),
        )

    chord = [(196.0, 0.0, 4.0, 0.16), (246.9, 0.3, 4.0, 0.13), (293.7, 0.6, 4.0, 0.13),
             (392.0, 0.9, 3.0, 0.1), (493.9, 2.1, 3.0, 0.08)]  # fmt: skip
    return Clip(
        name="gallery",
        size=(640, 480),
        rate=25,
        seconds=4,
        layers=[(to_light(exhibition()), camera)],
        sound=notes(4, chord + [(82.0, start, 0.07, 0.7) for start in steps]),
        still=20,
        credits="Photographs: NASA (public domain), Rachel Michetti (CC0), Stefan van der Walt"
        " (CC0)",
    )


CLIPS: dict[str, Callable[[], Clip]] = {"pavilion": pavilion, "gallery": gallery}


def photograph(name: str) -> Image.Image:
    """A picture that lies in an installed package, which is not imported for it."""
    package, _, path = name.partition("/")
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise SystemExit(f"no {name}: pip install scikit-image scikit-learn")
    return Image.open(Path(spec.submodule_search_locations[0]) / path).convert("RGB")


def cut_out_flower(picture: Image.Image) -> Light:
    """The orange dahlia without the green behind it."""
    pixels = np.asarray(picture)
    orange = ((pixels[..., 0] > 120) & (pixels[..., 0] > pixels[..., 1])).astype(np.uint8)
    outlines, _ = cv2.findContours(orange, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    mask = np.zeros(orange.shape, np.float32)
    cv2.drawContours(mask, [max(outlines, key=cv2.contourArea)], -1, 1.0, cv2.FILLED)
    alpha = cv2.GaussianBlur(cv2.erode(mask, np.ones((3, 3))), (0, 0), 0.8)
    return np.dstack([to_light(picture) * alpha[..., np.newaxis], alpha]).astype(np.float32)


def exhibition() -> Image.Image:
    """A plastered wall, lit from above, with framed photographs and their labels."""
    rows, columns = np.mgrid[0:640, 0:1530].astype(np.float32)
    lamps = np.sum([np.exp(-(((columns - x) / 260) ** 2)) for x in (330, 765, 1210)], axis=0)
    plaster = np.random.default_rng(5).normal(0, 1, (640, 1530)).astype(np.float32)
    grain = cv2.GaussianBlur(plaster, (0, 0), 1.2) * 6
    brightness = 150 + 50 * lamps * np.exp(-(((rows - 230) / 300) ** 2)) + grain
    tint = np.array([1.0, 0.97, 0.9], np.float32)
    wall = Image.fromarray(np.clip(brightness[..., np.newaxis] * tint, 0, 255).astype(np.uint8))
    hang(wall, "astronaut.png", (330, 285), 330, "Eileen Collins", "NASA, public domain")
    hang(wall, "coffee.png", (765, 285), 264, "Coffee at Pikolo", "Rachel Michetti, CC0")
    hang(wall, "chelsea.png", (1210, 285), 240, "Chelsea", "Stefan van der Walt, CC0")
    return wall


def hang(
    wall: Image.Image, file: str, centre: tuple[int, int], height: int, title: str, credit: str
) -> None:
    """Put a photograph on the wall: smaller than it is, so sharp to the pixel; label below."""
    picture = photograph(f"skimage/data/{file}")
    picture = picture.resize(
        (picture.width * height // picture.height, height), Image.Resampling.LANCZOS
    )
    left, top = centre[0] - picture.width // 2, centre[1] - height // 2
    right, bottom = left + picture.width, top + height
    draw = ImageDraw.Draw(wall)
    for grow, colour in ((24, "#8a857c"), (20, "#1d1a18"), (12, "#f4f2ec"), (1, "#bdb8ad")):
        draw.rectangle((left - grow, top - grow, right + grow - 1, bottom + grow - 1), colour)
    wall.paste(picture, (left, top))
    draw.rectangle((left - 20, bottom + 40, left + 150, bottom + 84), "#faf9f5", "#a39e94")
    draw.text((left - 12, bottom + 44), title, "#111111", ImageFont.load_default(17))
    draw.text((left - 12, bottom + 66), credit, "#444444", ImageFont.load_default(12))


def notes(seconds: float, score: list[tuple[float, float, float, float]]) -> NDArray[np.float32]:
    """Plucked notes of (pitch in Hz, start, decay time, loudness), from left to right in turn."""
    time = np.arange(int(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    sound = np.zeros((2, time.size))
    for number, (pitch, start, decay, loudness) in enumerate(score):
        since = np.maximum(time - start, 0)
        onset = (time >= start) * (1 - np.exp(-since / 0.004))  # a bare start would click
        tone = sum(
            np.exp(-since * overtone**0.7 / decay) * np.sin(2 * np.pi * overtone * pitch * since)
            / overtone**1.5
            for overtone in range(1, 6)
        )  # fmt: skip
        pan = 0.5 + 0.35 * np.sin(1.7 * number)
        sound += np.outer([1 - pan, pan], loudness * onset * tone)
    fade = np.clip((seconds - time) / 0.15, 0, 1)
    return (0.7 * np.tanh(sound * fade)).astype(np.float32)


def to_light(picture: Image.Image) -> Light:
    """Linear light from 8-bit sRGB (IEC 61966-2-1)."""
    code = np.asarray(picture, np.float32) / 255
    return np.where(code <= 0.04045, code / 12.92, ((code + 0.055) / 1.055) ** 2.4).astype("f4")


def to_display(light: NDArray[np.floating]) -> NDArray[np.uint8]:
    """8-bit sRGB from linear light."""
    light = np.clip(light, 0, 1)
    code = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.asarray(np.rint(255 * code), np.uint8)


def write(
    path: Path, clip: Clip, pictures: list[NDArray[np.uint8]], sound: NDArray[np.float32]
) -> None:
    """Encode H.264 and AAC, tagged BT.709 as cameras do."""
    with av.open(path, "w", options={"movflags": "+faststart"}) as output:
        output.metadata.update(title=clip.name, comment=clip.credits)
        video = output.add_stream("libx264", clip.rate, options={"crf": "20", "preset": "slow"})
        video.width, video.height = clip.size
        video.pix_fmt = "yuv420p"
        encoder = video.codec_context
        encoder.color_primaries = encoder.color_trc = encoder.colorspace = BT709
        encoder.color_range = ColorRange.MPEG
        audio = output.add_stream("aac", SAMPLE_RATE, layout="stereo")
        audio.bit_rate = 128_000

        heard = av.AudioFrame.from_ndarray(sound, "fltp", "stereo")
        heard.sample_rate, heard.pts = SAMPLE_RATE, 0
        output.mux(audio.encode(heard))
        output.mux(audio.encode())
        for picture in pictures:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(
                format="yuv420p",
                dst_colorspace=Colorspace.ITU709,
                dst_color_range=ColorRange.MPEG,
            )
            output.mux(video.encode(frame))
        output.mux(video.encode())


if __name__ == "__main__":
    main()
