"""Still pictures: files to samples and back, with the correction added to the samples.

As with videos, what is written is what was read plus the difference that the network made: 16 bits
stay 16 bits, transparency is not touched, and a lossless file stays as it was where the network
changed nothing.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyvips
from numpy.typing import NDArray

from streamdeblur import metadata, tags
from streamdeblur.correction import ACROSS, Way
from streamdeblur.errors import VideoError
from streamdeblur.frames import Image
from streamdeblur.video.headers import MAX_PIXELS
from streamdeblur.video.outputs import part_name, refuse_paths
from streamdeblur.video.parts import publish

# Libvips tells of damage in images by warnings, which Python would print.
logging.getLogger("pyvips").addHandler(logging.NullHandler())
pyvips.block_untrusted_set(True)  # readers that libvips' makers would not give strangers' files to
pyvips.cache_set_max(0)  # nothing is asked for twice, and open files could not be replaced

_LOADERS = ("jpeg", "png", "webp", "tiff", "heif")
_HIGH = 95  # of 100: visually lossless, for what is coded a second time
_SAVERS: dict[str, Callable[[StillImage], dict[str, Any]]] = {
    # By the extension of the output: options of libvips' saver, given the source.
    ".jpg": lambda image: {"Q": _HIGH, "subsample_mode": _subsampling(image)},
    ".png": lambda image: {"bitdepth": image.depth},
    ".webp": lambda image: {"lossless": True} if _is_lossless(image) else {"Q": _HIGH},
    ".tif": lambda image: {
        "compression": "none" if len(image.data) > image.samples.nbytes else "lzw",
        "predictor": "horizontal",
    },
    ".avif": lambda image: {
        "Q": _HIGH,
        "bitdepth": min(12, int(_field(image, "bits-per-sample", image.depth))),
        "subsample_mode": "off",
    },
}
_ALIASES = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}
_GRAY, _RGB = ("b-w", "grey16"), ("srgb", "rgb", "rgb16")
# That go without saying: of sRGB, BT.709 and others with its curve, and unnamed (ITU-T H.273).
_PRIMARIES, _TRANSFERS = (1, 2), (1, 2, 6, 13, 14, 15)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601-7, as JPEG's (JFIF 1.02)


@dataclass(frozen=True, slots=True)
class StillImage:
    """An image file, decoded."""

    path: Path
    data: bytes
    """The file."""
    decoded: pyvips.Image
    """Its header and metadata."""
    samples: NDArray[Any]
    """uint8 or uint16, shape (H, W, B): gray or RGB, and transparency if there is any."""

    @property
    def described(self) -> str:
        """In words."""
        height, width, bands = self.samples.shape
        kinds = {1: "gray", 2: "gray with transparency", 3: "RGB", 4: "RGB with transparency"}
        kind = kinds.get(bands, f"{bands} channels")
        return f"{width}x{height}, {kind} of {self.depth} bits, {_suffix_of(self)[1:]}"

    @property
    def turns(self) -> int:
        """Quarter turns, counter-clockwise, by which viewers show it (EXIF 2.32, 4.6.4)."""
        return {3: 2, 6: -1, 8: 1}.get(_field(self, "orientation", 1), 0)

    @property
    def rightwards(self) -> Way:
        """Where the right of what viewers show lies in the samples (EXIF 2.32, 4.6.4)."""
        ways = {2: (1, -1), 3: (1, -1), 5: (0, 1), 6: (0, -1), 7: (0, -1), 8: (0, 1)}
        return ways.get(_field(self, "orientation", 1), ACROSS)

    @property
    def depth(self) -> int:
        """Bits of a sample: 8 or 16."""
        return 8 * self.samples.itemsize

    @property
    def channels(self) -> int:
        """Of colour: 1 or 3."""
        return 1 if self.samples.shape[2] < 3 else 3

    @property
    def view(self) -> Image:
        """What the network sees: RGB uint8, shape (H, W, 3)."""
        colours = self.samples[:, :, : self.channels]
        if self.depth == 16:
            colours = ((colours.astype(np.uint32) + 128) // 257).astype(np.uint8)
        return np.ascontiguousarray(np.broadcast_to(colours, (*colours.shape[:2], 3)))


def read_image(path: Path) -> StillImage:
    """Decode an image file.

    Raises:
        VideoError: it cannot be read, is damaged, or is of a kind that would not come back whole.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise VideoError(f"can't read {path}: {error.strerror}") from error
    if metadata.is_animated(data):  # which libvips does not say, or does not read
        raise VideoError(f"{path} is animated, and only its first frame would be kept")
    try:
        # Never by its name, in which libvips would look for options.
        decoded = pyvips.Image.new_from_buffer(data, "", fail_on="truncated")
        if not str(decoded.get("vips-loader")).startswith(_LOADERS):
            raise VideoError(f"{path} is no JPEG, PNG, WebP, TIFF or AVIF image")
        _refuse(path, data, decoded)
        samples = decoded.numpy().reshape(decoded.height, decoded.width, decoded.bands)
    except pyvips.Error as error:
        advice = "is it a whole JPEG, PNG, WebP, TIFF or AVIF file?"
        raise VideoError(f"can't read {path}: {_reason(error)}; {advice}") from error
    return StillImage(path, data, decoded, samples)


def _refuse(path: Path, data: bytes, decoded: pyvips.Image) -> None:
    if decoded.width * decoded.height > MAX_PIXELS:
        size = f"{decoded.width}x{decoded.height}"
        raise VideoError(f"{path} is {size} pixels large, more than {MAX_PIXELS} in all: cut it")
    pages = decoded.get_n_pages()
    if pages > 1:
        raise VideoError(f"{path} has {pages} pages or frames, of which only one would be kept")
    primaries, transfer = metadata.named_colours(data)
    is_usual = primaries in _PRIMARIES and transfer in _TRANSFERS
    if not is_usual and not decoded.get_typeof("icc-profile-data"):
        raise VideoError(
            f"{path} has wide or HDR colours (CICP {primaries}, {transfer}) without an ICC"
            " profile, which would not be kept: convert it to sRGB"
        )
    if decoded.format not in ("uchar", "ushort") or decoded.interpretation not in (*_GRAY, *_RGB):
        what = f"{decoded.interpretation} samples of type {decoded.format}"
        raise VideoError(f"{path} has {what}: only gray and RGB of 8 or 16 bits can be deblurred")


def corrected_samples(image: StillImage, sharp: Image, strength: float = 1.0) -> NDArray[Any]:
    """The samples with their correction: samples + strength * (sharp - view).

    Args:
        image: as read.
        sharp: the network's answer to its view, shape (H, W, 3).
        strength: how much of the change is applied, 0 to 1.

    Returns:
        The same type and shape; equal where `sharp` equals the view.
    """
    step = 257 if image.depth == 16 else 1
    change = np.subtract(sharp, image.view, dtype=np.int16).astype(np.float32)
    if image.channels == 1:
        change = change @ _LUMA[:, np.newaxis]
    result = image.samples.copy()
    colours = result[:, :, : image.channels]
    total = np.rint(change * np.float32(strength * step)) + colours
    colours[...] = np.clip(total, 0, 255 * step)
    return result


class ImageOutput:
    """Where a deblurred image goes: a file that appears whole or not at all.

    Args:
        path: the output; its extension names the format.
        original: the input.
        overwrite: replace an existing file.

    Raises:
        VideoError: it cannot be written there, or its format is not known.
    """

    def __init__(self, path: Path, original: Path, *, overwrite: bool = False) -> None:
        self.path = path
        suffix = path.suffix.lower()
        self._suffix = _ALIASES.get(suffix, suffix)
        if self._suffix not in _SAVERS:
            known = ", ".join(sorted(_SAVERS))
            raise VideoError(f"can't write {path}: images end in one of {known}")
        refuse_paths(path, part_name(path), original, overwrite)
        self._overwrite = overwrite

    def write(
        self,
        image: StillImage,
        samples: NDArray[Any],
        note: Callable[[Path], None] = lambda part: None,
    ) -> None:
        """Write samples with all else that the image file holds.

        What equals the input is the input, byte for byte, if its format is to stay. `note` is told
        the file that is complete, just before that gets its name.

        Raises:
            VideoError: the format cannot hold them, or the file cannot be written.
        """
        data = image.data
        is_same = self._suffix == _suffix_of(image)
        if not is_same or not np.array_equal(samples, image.samples):
            data = self._encoded(image, samples)
        part = part_name(self.path)
        try:
            with part.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())  # a power cut must not leave the name without its content
            note(part)
            publish(part, self.path, self._overwrite)
        except OSError as error:
            raise VideoError(f"can't write {self.path}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _encoded(self, image: StillImage, samples: NDArray[Any]) -> bytes:
        source, suffix = image.decoded, self._suffix
        if suffix == ".jpg" and samples.shape[2] in (2, 4):
            raise VideoError(f"can't write {self.path}: JPEG has no transparency; use .png")
        height, width, bands = samples.shape
        picture = pyvips.Image.new_from_memory(
            np.ascontiguousarray(samples).data, width, height, bands, source.format
        ).copy(interpretation=source.interpretation, xres=source.xres, yres=source.yres)
        is_carried = _suffix_of(image) == suffix and metadata.can_carry(image.data)
        told = tags.told(_block(image))
        if not is_carried:
            _copy_fields(source, picture)
        if told and _suffix_of(image) == ".tif":  # of which libvips knows none of it
            block = b"Exif\0\0" + tags.alone(told)
            picture.set_type(pyvips.GValue.blob_type, "exif-data", block)
        keep = "none" if is_carried else "all"
        try:
            data = picture.write_to_buffer(suffix, keep=keep, **_SAVERS[suffix](image))
        except pyvips.Error as error:
            raise VideoError(f"can't write {self.path}: {_reason(error)}") from error
        if suffix == ".tif":
            return tags.added(told, data)
        return metadata.carried(image.data, data) if is_carried else bytes(data)


def notices_of(image: StillImage, output: Path) -> list[str]:
    """What of an image cannot be kept in an output, one line each."""
    suffix = _ALIASES.get(output.suffix.lower(), output.suffix.lower())
    found = []
    if metadata.further_pictures(image.data):
        found.append(f"the further pictures in {image.path} (depth, gain map) can't be kept")
    if image.depth == 16 and suffix in (".jpg", ".webp"):
        found.append(f"the depth of {image.path} can't be kept in {suffix}: it becomes 8 bits")
    if ".tif" in (suffix, _suffix_of(image)):
        lost = tags.lost(_block(image), in_exif=suffix != ".tif")
        numbers = ", ".join(map(str, lost))
        if lost:
            found.append(f"the TIFF tags {numbers} of {image.path} can't be kept in {suffix}")
    return found


def _suffix_of(image: StillImage) -> str:
    """The usual extension of the format that an image file truly has."""
    loader = str(image.decoded.get("vips-loader"))
    kind = next(kind for kind in _LOADERS if loader.startswith(kind))
    return {"jpeg": ".jpg", "tiff": ".tif", "heif": ".avif"}.get(kind, f".{kind}")


def _block(image: StillImage) -> bytes:
    """The TIFF file or block of EXIF that tells of an image; empty if there is neither."""
    if _suffix_of(image) == ".tif":
        return image.data
    return bytes(_field(image, "exif-data", b"")).removeprefix(b"Exif\0\0")


def _copy_fields(source: pyvips.Image, target: pyvips.Image) -> None:
    """Copy what libvips knows of an image beside its samples: EXIF, ICC, XMP, orientation..."""
    there = set(target.get_fields())
    for name in source.get_fields():
        if name not in there:
            target.set_type(source.get_typeof(name), name, source.get(name))


def _subsampling(image: StillImage) -> str:
    return "on" if _field(image, "jpeg-chroma-subsample", "4:4:4") == "4:2:0" else "off"


def _is_lossless(image: StillImage) -> bool:
    return metadata.is_lossless_webp(image.data) or _suffix_of(image) in (".png", ".tif")


def _field(image: StillImage, name: str, default: Any) -> Any:
    return image.decoded.get(name) if image.decoded.get_typeof(name) else default


def _reason(error: pyvips.Error) -> str:
    lines = [line.strip() for line in str(error.detail).splitlines() if line.strip()]
    return lines[0][:300] if lines else "the library gives no reason"
