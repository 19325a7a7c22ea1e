"""Pictures on disk, and stores of them in memory from which crops are gathered batch-wise."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Generator, Tensor

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
UNREADABLE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)
"""What PIL raises on files that are broken, or pictures of more than 179 million pixels."""


def in_natural_order(path: Path) -> list[str | int]:
    """Key that sorts frame 9 before frame 10, whether its name has zeros in front or not."""
    parts = re.split(r"(\d+)", str(path))
    return [int(part) if index % 2 else part for index, part in enumerate(parts)]


def find_pictures(folder: Path) -> list[Path]:
    """All pictures below `folder`, in the natural order of their names.

    Raises:
        FileNotFoundError: there is no such folder, or it holds no pictures.
    """
    found = [p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES]
    if not found:
        raise FileNotFoundError(f"no pictures in {folder}")
    return sorted(found, key=in_natural_order)


def find_pairs(folder: Path, blurred: str = "blur") -> list[tuple[Path, Path]]:
    """(blurred, sharp) files below `folder`: plain blur/ and sharp/, or GoPro's */SEQ/blur/.

    Raises:
        FileNotFoundError: there are none, or a picture has no twin.
    """
    pairs = []
    places = [p for p in folder.rglob("*") if p.name == blurred and p.is_dir()]
    for place in sorted(places, key=in_natural_order):
        sharp = place.parent / "sharp"
        here = [(path, sharp / path.relative_to(place)) for path in find_pictures(place)]
        for path, twin in here:
            if not twin.exists():
                raise FileNotFoundError(f"{path} has no sharp twin at {twin}")
        alone = sorted(set(find_pictures(sharp)).difference(twin for _, twin in here))
        if alone:
            raise FileNotFoundError(
                f"{len(alone)} sharp pictures beside {place} have no blurred twin: {alone[0].name}"
            )
        pairs += here
    if not pairs:
        raise FileNotFoundError(f"no {blurred}/ folder with pictures in {folder}")
    return pairs


def read_picture(path: Path, *, size: tuple[int, int] | None = None) -> NDArray[np.uint8]:
    """RGB, shape (H, W, 3); reduced to a `size` (H, W) if that is another than its own.

    Raises:
        ValueError: the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            whole = picture.convert("RGB")
            if size and size != (whole.height, whole.width):
                whole = whole.resize(size[::-1], Image.Resampling.LANCZOS)
            return np.array(whole)
    except UNREADABLE as error:
        raise ValueError(f"can't read the picture {path}: {error}") from error


def size_of(path: Path) -> tuple[int, int]:
    """Height and width of a picture that is whole, as far as its format tells without decoding.

    Raises:
        ValueError: it is not.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            picture.verify()
    except UNREADABLE as error:
        raise ValueError(f"can't read the picture {path}: {error}") from error
    return height, width


class PictureStore:
    """Pictures of any size in one flat uint8 tensor, from which crops are gathered batch-wise."""

    def __init__(
        self, paths: Sequence[Path], *, smallest: int, device: torch.device, reduced: bool = False
    ) -> None:
        """Read `paths`; pictures smaller than `smallest` pixels either way are mirrored.

        With `reduced`, those that stay large enough are there a second time, at half to three
        quarters of their size.

        Raises:
            ValueError: one is broken.
        """
        self._read = [size_of(path) for path in paths]
        """Their heights and widths before that."""
        if reduced:
            smaller = _smaller(self._read, smallest)
            paths = [*paths, *(paths[number] for number in smaller)]
            self._read += smaller.values()
        sizes = [tuple(max(side, smallest) for side in size) for size in self._read]
        ends = np.cumsum([height * width for height, width in sizes])
        starts = np.array([0, *ends[:-1]])
        self._pixels = torch.empty(int(ends[-1]), 3, dtype=torch.uint8, device=device)
        places = zip(paths, self._read, sizes, starts, ends, strict=True)
        for path, read, size, start, end in places:
            # One after the other into its place: together they may fill the memory.
            picture = read_picture(path, size=read)
            short = [(0, side - there) for side, there in zip(size, read, strict=True)]
            whole = np.pad(picture, (*short, (0, 0)), mode="symmetric")
            self._pixels[start:end] = torch.from_numpy(whole.reshape(-1, 3))
        self._starts = torch.tensor(starts, device=device)
        self._sizes = torch.tensor(sizes, device=device)

    def __len__(self) -> int:
        return len(self._starts)

    def are_alike(self, first: int, count: int) -> bool:
        """Whether so many pictures from number `first` on have one size."""
        return len(set(self._read[first : first + count])) == 1

    def must_match(self, other: PictureStore, names: list[Path]) -> None:
        """Raise ValueError unless each picture has the size of its twin in `other`."""
        for name, *shapes in zip(names, self._read, other._read, strict=True):
            if shapes[0] != shapes[1]:
                raise ValueError(f"{name} and its sharp twin differ in size")

    def places(
        self,
        count: int,
        size: int,
        generator: Generator,
        *,
        draws: int = 1,
        among: Tensor | None = None,
    ) -> Tensor:
        """Random crops as (count, 3): picture, top, left; only of the pictures `among`, if given.

        Of every `draws` that are drawn the one with the most detail is taken.
        """
        drawn = torch.stack([self._anywhere(count, size, generator, among) for _ in range(draws)])
        if draws == 1:
            return drawn[0]
        detail = torch.stack([_detail(self.crops(places, size)) for places in drawn])
        return drawn[detail.argmax(dim=0), torch.arange(count, device=drawn.device)]

    def _anywhere(
        self, count: int, size: int, generator: Generator, among: Tensor | None
    ) -> Tensor:
        device = generator.device
        choices = len(self) if among is None else len(among)
        which = torch.randint(choices, (count,), generator=generator, device=device)
        which = which if among is None else among[which]
        room = (self._sizes[which] - size + 1).float()
        corner = (torch.rand(count, 2, generator=generator, device=device) * room).long()
        return torch.cat([which[:, None], corner], dim=1)

    def crops(self, places: Tensor, size: int) -> Tensor:
        """Float RGB in [0, 1], (N, 3, size, size), of places (N, 3)."""
        which, top, left = places.unbind(dim=1)
        along = torch.arange(size, device=places.device)
        rows = (top[:, None] + along) * self._sizes[which, 1:2] + self._starts[which, None]
        index = rows[:, :, None] + left[:, None, None] + along
        return self._pixels[index].permute(0, 3, 1, 2).float() / 255


def _smaller(sizes: Sequence[tuple[int, int]], smallest: int) -> dict[int, tuple[int, int]]:
    """By number of a picture, the size to reduce it to: where it has `smallest` pixels then."""
    golden = (1 + 5**0.5) / 2  # of whose multiples the fractions lie evenly
    found = {}
    for number, (height, width) in enumerate(sizes):
        share = max(0.5 + number * golden % 1 / 4, smallest / min(height, width))
        if share <= 0.75:
            found[number] = math.ceil(height * share), math.ceil(width * share)
    return found


def _detail(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in green, (N,), of pictures (N, 3, H, W)."""
    green = pictures[:, 1]
    across, down = green.diff(dim=2), green.diff(dim=1)
    return across.abs().mean(dim=(1, 2)) + down.abs().mean(dim=(1, 2))
