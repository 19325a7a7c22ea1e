"""Training samples: pictures held in memory, batches that depend on the seed and the step alone.

Because a batch is a pure function of (seed, step), a resumed run needs no saved random state and
continues exactly.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Generator, Tensor

from train import blur
from train.blur import Dice
from train.config import TrainConfig
from train.teacher import Teacher

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"}
POOL_STEPS = 128
"""Steps that a sample stays in the pool, where samples are used more than once."""
_EXPOSURES = (1, 5, 7, 9, 11, 13, 15)
"""Frames in the average of a high-rate sample; of one frame, to learn to leave it alone."""
_SUBFRAMES = (11, 17, 25, 33)
"""Poses in the trajectory of a synthetic sample: few leave the gaps that averages of fast frames
have, as GoPro's pairs do; many leave none, as a camera's own exposure."""


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
    places = [p for p in folder.rglob(blurred) if p.is_dir()]
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


def read_picture(path: Path) -> NDArray[np.uint8]:
    """RGB, shape (H, W, 3).

    Raises:
        ValueError: the file is no picture.
    """
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except (UnidentifiedImageError, OSError) as error:
        raise ValueError(f"can't read the picture {path}: {error}") from error


class PictureStore:
    """Pictures of any size in one flat uint8 tensor, from which crops are gathered batch-wise."""

    def __init__(self, paths: Iterable[Path], *, smallest: int, device: torch.device) -> None:
        """Read `paths`; pictures smaller than `smallest` pixels either way are mirrored."""
        pictures = []
        for path in paths:
            picture = read_picture(path)
            short = [(0, max(0, smallest - side)) for side in picture.shape[:2]]
            pictures.append(np.pad(picture, (*short, (0, 0)), mode="symmetric"))
        flat = np.concatenate([picture.reshape(-1, 3) for picture in pictures])
        areas = [picture.shape[0] * picture.shape[1] for picture in pictures]
        self._pixels = torch.from_numpy(flat).to(device)
        self._starts = torch.tensor(np.cumsum([0, *areas[:-1]]), device=device)
        self._sizes = torch.tensor([p.shape[:2] for p in pictures], device=device)

    def __len__(self) -> int:
        return len(self._starts)

    def are_alike(self, first: int, count: int) -> bool:
        """Whether so many pictures from number `first` on have one size."""
        return bool((self._sizes[first : first + count] == self._sizes[first]).all())

    def must_match(self, other: PictureStore, names: list[Path]) -> None:
        """Raise ValueError unless each picture has the size of its twin in `other`."""
        different = (self._sizes != other._sizes).any(dim=1).nonzero()
        if len(different):
            raise ValueError(f"{names[int(different[0])]} and its sharp twin differ in size")

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


Maker = Callable[[int, int, Dice], tuple[Tensor, Tensor]]
"""Makes that many (blurred, sharp) samples of a size, each (N, 3, size, size) in [0, 1]."""


class Samples:
    """The stream of training batches of one run."""

    def __init__(self, config: TrainConfig, device: torch.device, *, rank: int = 0) -> None:
        """Read all training pictures onto `device`; processes of one run differ in `rank`.

        Raises:
            FileNotFoundError, ValueError: a folder or picture is missing or unreadable.
        """
        self._config = config
        self._device = device
        self._rank = rank
        pairs = [pair for f in config.pairs for pair in find_pairs(f, config.blur_folder)]
        self.pairs = len(pairs)
        """How many real pairs there are to learn from."""
        self._makers = list(_makers(config, pairs, device))
        self._teacher = Teacher.of(config, device)
        self._pool: deque[tuple[Tensor, Tensor]] = deque(
            maxlen=1 if config.reuse == 1 else POOL_STEPS
        )
        self._pooled = -1, 0, 0
        """The last step in the pool, and the size and number of its crops."""

    def batch(self, step: int, crop: int, count: int) -> tuple[Tensor, Tensor]:
        """Blurred and sharp crops of a step, (count, 3, crop, crop), in [-1, 1].

        With a teacher it has its share in the sharp ones: what it makes of the blurred ones.
        """
        self._fill_pool(step, crop, count)
        dice = self._dice(step, salt=1)
        blurred, sharp = self._draw(count, dice)
        if self._config.augment:
            blurred, sharp = _turn(blurred, sharp, dice)
        return blurred * 2 - 1, sharp * 2 - 1

    def _draw(self, count: int, dice: Dice) -> tuple[Tensor, Tensor]:
        """A batch from the pool: all of it, or samples at random where they are reused."""
        if self._config.reuse == 1:
            return self._pool[0]
        drawn = dice.host.random((count, 2)).tolist()
        chunks = [self._pool[int(a * len(self._pool))] for a, _ in drawn]
        inside = [int(b * len(chunk[0])) for chunk, (_, b) in zip(chunks, drawn, strict=True)]
        picked = list(zip(chunks, inside, strict=True))
        return torch.stack([c[0][i] for c, i in picked]), torch.stack([c[1][i] for c, i in picked])

    def _fill_pool(self, step: int, crop: int, count: int) -> None:
        """Bring the pool to `step`; after a resume or a change of size this makes it all again.

        So what is in it depends on the step and the size alone.
        """
        if self._pooled[1:] != (crop, count) or step < self._pooled[0]:
            self._pool.clear()
            self._pooled = -1, crop, count
        kept = self._pool.maxlen or 1
        for missing in range(max(self._pooled[0] + 1, step - kept + 1), step + 1):
            self._pool.append(self._make(missing, crop, -(-count // self._config.reuse)))
        self._pooled = step, crop, count

    def _make(self, step: int, crop: int, count: int) -> tuple[Tensor, Tensor]:
        """The fresh samples of a step: each maker's share, drawn at random."""
        dice = self._dice(step, salt=0)
        shares = np.array([share for share, _ in self._makers])
        counts = dice.host.multinomial(count, shares / shares.sum()).tolist()
        made = [make(n, crop, dice) for n, (_, make) in zip(counts, self._makers, strict=True) if n]
        blurred, sharp = (torch.cat(kind) for kind in zip(*made, strict=True))
        if self._config.augment:
            blurred = blur.degrade(blurred, dice)
        return blurred, self._teacher.targets(blurred, sharp) if self._teacher else sharp

    def seed(self, step: int, *, salt: int) -> int:
        """A seed of 64 random bits; torch's generator for processors takes the lower half."""
        entropy = (self._config.seed, self._rank, step, salt)
        return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0])

    def _dice(self, step: int, *, salt: int) -> Dice:
        return Dice.of(self.seed(step, salt=salt), self._device)


def _makers(
    config: TrainConfig, pairs: list[tuple[Path, Path]], device: torch.device
) -> Iterable[tuple[float, Maker]]:
    """Each kind of training data with its share of the samples."""
    real = (config.share_high_rate if config.high_rate else 0.0) + (
        config.share_pairs if config.pairs else 0.0
    )
    if config.photos and real < 1:
        yield 1 - real, _synthetic(config, device)
    if config.high_rate:
        yield config.share_high_rate, _averaged(config, device)
    if config.pairs:
        yield config.share_pairs, _paired(config, pairs, device)
    if not (config.photos or config.high_rate or config.pairs):
        raise ValueError("nothing to learn from: give --photos, --high-rate or --pairs")


def _synthetic(config: TrainConfig, device: torch.device) -> Maker:
    paths = [path for folder in config.photos for path in find_pictures(folder)]
    store = PictureStore(paths, smallest=max(config.crops) + 2 * blur.MARGIN, device=device)

    def make(count: int, crop: int, dice: Dice) -> tuple[Tensor, Tensor]:
        side = crop + 2 * blur.MARGIN
        pictures = store.crops(store.places(count, side, dice.device, draws=config.draws), side)
        frames = int(dice.host.choice(_SUBFRAMES))
        return blur.integrate(pictures, crop, frames=frames, extent=config.extent, dice=dice)

    return make


def _averaged(config: TrainConfig, device: torch.device) -> Maker:
    paths = [path for folder in config.high_rate for path in find_pictures(folder)]
    store = PictureStore(paths, smallest=max(config.crops) + 2 * blur.MARGIN, device=device)
    begins = _beginnings(paths, store, device)

    def make(count: int, crop: int, dice: Dice) -> tuple[Tensor, Tensor]:
        length = int(dice.host.choice(_EXPOSURES))
        side = crop + 2 * blur.MARGIN
        places = store.places(count, side, dice.device, draws=config.draws, among=begins[length])
        step = torch.tensor([1, 0, 0], device=device)
        exposure = torch.stack([places + step * t for t in range(length)], dim=1)
        frames = store.crops(exposure.flatten(0, 1), side).view(count, length, 3, side, side)
        return blur.average(frames, crop, extent=config.extent / 2, generator=dice.device)

    return make


def _beginnings(paths: list[Path], store: PictureStore, device: torch.device) -> dict[int, Tensor]:
    """For each length of an exposure the frames that it can begin with: within one folder."""
    begins: dict[int, list[int]] = {length: [] for length in _EXPOSURES}
    first = 0
    for folder, frames in groupby(paths, key=lambda path: path.parent):
        count = len(list(frames))
        if count < max(_EXPOSURES):
            raise ValueError(
                f"--high-rate needs at least {max(_EXPOSURES)} consecutive frames, and {folder}"
                f" has {count}"
            )
        if not store.are_alike(first, count):
            raise ValueError(f"--high-rate: the frames in {folder} differ in size")
        for length, known in begins.items():
            known.extend(range(first, first + count - length + 1))
        first += count
    return {length: torch.tensor(known, device=device) for length, known in begins.items()}


def _paired(config: TrainConfig, pairs: list[tuple[Path, Path]], device: torch.device) -> Maker:
    blurred, sharp = (
        PictureStore(side, smallest=max(config.crops), device=device)
        for side in zip(*pairs, strict=True)
    )
    blurred.must_match(sharp, [path for path, _ in pairs])

    def make(count: int, crop: int, dice: Dice) -> tuple[Tensor, Tensor]:
        places = sharp.places(count, crop, dice.device, draws=config.draws)
        return blurred.crops(places, crop), sharp.crops(places, crop)

    return make


def _detail(pictures: Tensor) -> Tensor:
    """Mean absolute difference of neighbours in green, (N,), of pictures (N, 3, H, W)."""
    green = pictures[:, 1]
    across, down = green.diff(dim=2), green.diff(dim=1)
    return across.abs().mean(dim=(1, 2)) + down.abs().mean(dim=(1, 2))


def _turn(blurred: Tensor, sharp: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Mirror and transpose each pair at random: the eight symmetries of the square."""
    both = torch.cat([blurred, sharp], dim=1)
    for flip in ((2,), (3,)):
        both = torch.where(_coins(both, dice), both.flip(flip), both)
    both = torch.where(_coins(both, dice), both.transpose(2, 3), both)
    return both[:, :3], both[:, 3:]


def _coins(like: Tensor, dice: Dice) -> Tensor:
    return blur.uniform(dice.device, 0, 1, len(like), 1, 1, 1) < 0.5
