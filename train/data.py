"""Training samples: batches of crops that depend on the seed and the step alone.

Because a batch is a pure function of (seed, step), a resumed run needs no saved random state and
continues exactly.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from train import blur
from train.blur import Dice
from train.config import TrainConfig
from train.pictures import PictureStore, find_pairs, find_pictures
from train.teacher import Teacher

POOL_STEPS = 128
"""Steps that a sample stays in the pool, where samples are used more than once."""
_EXPOSURES = (1, 5, 7, 9, 11, 13, 15)
"""Frames in the average of a high-rate sample; of one frame, to learn to leave it alone."""
_SUBFRAMES = (11, 17, 25, 33)
"""Poses in the trajectory of a synthetic sample: few leave the gaps that averages of fast frames
have, as GoPro's pairs do; many leave none, as a camera's own exposure."""
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
    if not (config.photos or real):
        raise ValueError("nothing to learn from: give --photos, --high-rate or --pairs a share")
    if config.photos:
        if real >= 1:
            raise ValueError("--share-high-rate and --share-pairs leave no share for --photos")
        yield 1 - real, _synthetic(config, device)
    if config.high_rate:
        yield config.share_high_rate, _averaged(config, device)
    if config.pairs:
        yield config.share_pairs, _paired(config, pairs, device)


def _synthetic(config: TrainConfig, device: torch.device) -> Maker:
    if config.extent > 2 * blur.MARGIN:  # half of a path lies on either side of its middle
        raise ValueError(
            f"--extent {config.extent:g}: pictures are cut with {blur.MARGIN} pixels around the "
            f"crop, enough for {2 * blur.MARGIN}"
        )
    paths = [path for folder in config.photos for path in find_pictures(folder)]
    smallest = max(config.crops) + 2 * blur.MARGIN
    store = PictureStore(paths, smallest=smallest, device=device, reduced=config.reduced)

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


def _turn(blurred: Tensor, sharp: Tensor, dice: Dice) -> tuple[Tensor, Tensor]:
    """Mirror and transpose each pair at random: the eight symmetries of the square."""
    both = torch.cat([blurred, sharp], dim=1)
    for flip in ((2,), (3,)):
        both = torch.where(_coins(both, dice), both.flip(flip), both)
    both = torch.where(_coins(both, dice), both.transpose(2, 3), both)
    return both[:, :3], both[:, 3:]


def _coins(like: Tensor, dice: Dice) -> Tensor:
    return blur.uniform(dice.device, 0, 1, len(like), 1, 1, 1) < 0.5
