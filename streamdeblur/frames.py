"""What travels through the program: frames, and what is known of the video they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Protocol, Self, runtime_checkable

import av
import numpy as np
from av.video.reformatter import ColorRange, Colorspace, Interpolation
from numpy.typing import NDArray

Image = NDArray[np.uint8]
"""RGB, shape (H, W, 3), full range, C-contiguous."""


_WIDEST = 4.0  # times as wide as high, or as high as wide: pixels of real cameras are up to 2


class Frame:
    """One picture and the moment it is shown.

    Args:
        picture: as decoded.
        image: its RGB view; None to have it made from `picture` when it is first asked for.
        pts: presentation time, in ticks of the video's `time_base`.
        sharp: the network's answer, if there is one.
        captured: when the data of a live frame came.
    """

    __slots__ = ("_image", "captured", "finished", "picture", "pts", "sharp")

    def __init__(
        self,
        picture: av.VideoFrame,
        image: Image | None,
        pts: int,
        sharp: Image | None = None,
        captured: float | None = None,
    ) -> None:
        self.picture = picture
        """As decoded: native planes, depth, tags and side data. Never changed."""
        self._image = image
        self.pts = pts
        """Presentation time, in ticks of the video's `time_base`."""
        self.sharp = sharp
        """The network's answer to `image`; same shape. None until a network has seen the frame."""
        self.captured = captured
        """When the data of a live frame came, in seconds of `time.monotonic`; None for files."""
        self.finished: av.VideoFrame | None = None
        """What a `PreparingSink` is going to encode, from when it was prepared until then."""

    @property
    def image(self) -> Image:
        """The RGB view of `picture` that the network sees, made once: in whatever thread asks."""
        if self._image is None:
            self._image = rgb_view(self.picture)
        return self._image

    def __repr__(self) -> str:
        picture = self.picture
        size = f"{picture.width}x{picture.height}"
        return f"Frame({size} {picture.format.name}, pts={self.pts})"


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoInfo:
    """What a sink must know in order to write what a source reads.

    The colour tags are the code points of ITU-T H.273, which FFmpeg uses as they are; 2 means
    "unspecified" for all but `color_range`, where 0 does.
    """

    width: int
    """Pixels, before rotation."""
    height: int
    """Pixels, before rotation."""
    time_base: Fraction
    """Seconds per tick."""
    rate: Fraction
    """Average frames per second. A hint for encoders and estimates; never used to compute time."""
    codec: str
    """FFmpeg's name of the codec family, for example `h264`."""
    pix_fmt: str
    """FFmpeg's name of the decoded layout, for example `yuv420p10le`."""
    frame_count: int | None = None
    """From the header, which may be wrong; None if unknown or only a part is read."""
    duration: Fraction | None = None
    """Seconds that will be read, by the header; None if unknown."""
    colorspace: int = 2
    """The YUV matrix (H.273 MatrixCoefficients)."""
    color_range: int = 0
    """0 untagged, 1 limited (16..235), 2 full (0..255)."""
    color_primaries: int = 2
    """H.273 ColourPrimaries."""
    color_trc: int = 2
    """H.273 TransferCharacteristics."""
    chroma_location: str | None = None
    """Where chroma samples lie between those of luma, for example `left`; None if unknown."""
    sample_aspect_ratio: Fraction | None = None
    """Width of a pixel over its height; None if untagged."""
    display_matrix: tuple[int, ...] | None = None
    """The nine numbers that rotate or mirror the picture for display; None if upright."""
    rotation: int = 0
    """Degrees counter-clockwise by which players turn the picture, from `display_matrix`."""
    field_order: int = 0
    """FFmpeg's code: 0 unknown, 1 progressive, 2 and above interlaced."""
    profile: str | None = None
    """The codec's profile, for example `High` or `HQ`."""
    mastering_display: tuple[Fraction, ...] | None = None
    """HDR mastering display: x and y of red, green, blue, white; least and most cd/m²."""
    content_light: tuple[int, int] | None = None
    """HDR content light levels MaxCLL and MaxFALL, in cd/m²."""
    unkept: tuple[str, ...] = ()
    """Facts of the picture that cannot be passed on to an encoder, in words."""

    @property
    def pixel_aspect(self) -> float:
        """Width of a pixel over its height, for displays: 1 if untagged, or beyond belief."""
        aspect = float(self.sample_aspect_ratio or 1)
        return aspect if 1 / _WIDEST <= aspect <= _WIDEST else 1.0


class FrameSource(Protocol):
    """Where frames come from. Closing it ends the iteration."""

    info: VideoInfo
    live: bool
    """True if frames come at their own pace and old ones lose their worth."""
    may_hang: bool
    """True if it waits for a camera, a network or another program, which may never answer."""

    def __iter__(self) -> Iterator[Frame]: ...

    def close(self) -> None:
        """Free the file or camera. Harmless when repeated."""


class ClosedInTheEnd:
    """Makes a source or a sink a context manager that closes it."""

    def close(self) -> None:
        """Free the file or camera."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class FrameSink(Protocol):
    """Where frames go."""

    def write(self, frame: Frame) -> None:
        """Take the next frame, in order of presentation."""


@runtime_checkable
class PreparingSink(FrameSink, Protocol):
    """A sink that can do a part of its work ahead, for several frames at the same time."""

    def prepare(self, frame: Frame) -> Frame:
        """Set `finished` of the frame, and return the frame. Changes nothing of the sink."""


_LUMA_WEIGHTS = {
    # (Kr, Kb) by H.273 MatrixCoefficients: the shares of red and blue in luma.
    1: (0.2126, 0.0722),  # ITU-R BT.709-6, 3.2
    4: (0.30, 0.11),  # FCC Title 47, 73.682
    5: (0.299, 0.114),  # ITU-R BT.601-7, 2.5.1 (625 lines)
    6: (0.299, 0.114),  # ITU-R BT.601-7, 2.5.1 (525 lines)
    7: (0.212, 0.087),  # SMPTE ST 240
    9: (0.2627, 0.0593),  # ITU-R BT.2020-2, table 4, non-constant luminance
    10: (0.2627, 0.0593),  # constant luminance, which players read as the former too
}
USUAL_MATRICES = {1: Colorspace.ITU709, 6: Colorspace.ITU601}
"""swscale's name of the matrices that untagged video is given, by H.273 MatrixCoefficients."""
# Chroma interpolated to every pixel and no rounding bias: without these two flags swscale takes
# the nearest chroma and makes pictures darker by one level in the mean.
_FAITHFUL = (
    Interpolation.BILINEAR
    | Interpolation.ACCURATE_RND
    | Interpolation.FULL_CHR_H_INT
    | Interpolation.BITEXACT
)
# swscale takes gray for full range whatever it is told: 16..235 becomes 0..255 by this table.
_STRETCHED = np.rint(np.clip((np.arange(256) - 16) * 255 / 219, 0, 255)).astype(np.uint8)


def rgb_view(picture: av.VideoFrame) -> Image:
    """The picture as the network sees it: RGB uint8, shape (H, W, 3), by the picture's own tags.

    It may share memory with `picture`, and must not be written to.
    """
    is_tagged = picture.format.is_rgb or picture.colorspace in _LUMA_WEIGHTS
    rgb = picture.reformat(
        format="rgb24",
        src_colorspace=None if is_tagged else USUAL_MATRICES[matrix(picture)],
        src_color_range=ColorRange.JPEG if is_full_range(picture) else ColorRange.MPEG,
        dst_color_range=ColorRange.JPEG,
        interpolation=int(_FAITHFUL),
        threads=1,  # other stages need the other cores
    )
    image = np.ascontiguousarray(rgb.to_ndarray(), dtype=np.uint8)
    is_gray = len(picture.format.components) < 3 and not picture.format.is_rgb
    return image if not is_gray or is_full_range(picture) else _STRETCHED[image]


def matrix(picture: av.VideoFrame) -> int:
    """The YUV matrix of a picture (H.273): as tagged, or else by the usual convention.

    Untagged video is BT.709 from 720 lines up and BT.601 below, as players assume.
    """
    if picture.colorspace in _LUMA_WEIGHTS:
        return picture.colorspace
    return usual_matrix(picture.height)


def usual_matrix(height: int) -> int:
    """The YUV matrix (H.273) of pictures that name none."""
    return 1 if height >= 720 else 6


def luma_weights(picture: av.VideoFrame) -> tuple[float, float, float]:
    """The shares of red, green and blue in the picture's luma; their sum is 1."""
    red, blue = _LUMA_WEIGHTS[matrix(picture)]
    return red, 1 - red - blue, blue


def is_full_range(picture: av.VideoFrame) -> bool:
    """Whether black is 0 and white the largest number, as tagged or else by the convention.

    Untagged YUV has limited range; untagged RGB and gray, and the `yuvj` layouts, have full range.
    """
    layout = picture.format
    if layout.is_rgb or layout.name.startswith("yuvj"):
        return True
    if picture.color_range == ColorRange.UNSPECIFIED:
        return len(layout.components) < 3
    return picture.color_range == ColorRange.JPEG
