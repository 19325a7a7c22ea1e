"""Pictures too large for the memory, in tiles that overlap by more than the network sees.

Each tile begins at a multiple of the network's own and is larger than what is kept of it by the
reach of the network, so that every pixel kept has seen what it would have seen in the whole
picture. All tiles of a picture have one size: runtimes prepare for each size anew.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from streamdeblur.errors import ModelError
from streamdeblur.memory import available_bytes, resident_bytes
from streamdeblur.network.ports import Images
from streamdeblur.spec import ModelSpec
from streamdeblur.threads import turnstile

Tile = int | Literal["auto", "off"]
"""Side of a tile without its overlap, in pixels; or as large as fits; or the picture whole."""

_PROBE = 256  # side of the picture whose memory is measured
# ONNX Runtime keeps what it took for one size while it takes more for another, and the pieces
# that it is given and gives are there as well, as floats if it has to be so.
_SAFETY = 1.5
_BYTES_AROUND = 64  # a pixel
# Of the memory that is free: two frames can be at work at the same time, and the rest is for
# decoding and encoding. With a quarter, x264 failed for want of 25 MB at some limits.
_SHARE = 0.18
_MOST_CUTS = 64  # of one side
_MOST_WORK = 8  # times the picture's pixels, overlaps counted
_LEAST_PIXELS = 128 * 128  # in a tile; what fails on so few does not fail for want of memory
# Networks that see the whole picture, or do not say: the seams are faded over.
_REACH, _FADE = 64, 64


class RunFailed(ModelError):  # noqa: N818 (it may be mended: no error yet)
    """The runtime failed on a picture, whatever its reason."""


@dataclass(frozen=True, slots=True)
class Cuts:
    """Windows of one length that cover a side of the picture, in pixels."""

    length: int
    starts: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Grid:
    """The tiles of a picture."""

    rows: Cuts
    columns: Cuts

    @property
    def pixels(self) -> int:
        """Of one tile."""
        return self.rows.length * self.columns.length

    @property
    def work(self) -> int:
        """Pixels of all tiles."""
        return self.pixels * len(self.rows.starts) * len(self.columns.starts)

    def __str__(self) -> str:
        across, down = len(self.columns.starts), len(self.rows.starts)
        return f"{across}x{down} tiles of {self.columns.length}x{self.rows.length}"


class Tiling:
    """Gives pictures of any size to a network, within the memory that there is.

    A picture is cut when it would take more than its share of the free memory, and into halves of
    what failed when the runtime fails nevertheless. Safe to use from several threads.

    Args:
        spec: of the network.
        tile: the wish.
        need: bytes of this machine's memory that the network takes for a pixel; None if its
            memory is not this machine's, so that only trying can tell.
        say: told each line that a person should know, once for each size of picture.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        tile: Tile = "auto",
        need: float | None = None,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        self._tile, self._need, self._say = tile, need, say
        self._multiple = spec.multiple_of
        self._sees_all = spec.receptive_field is None
        self._reach = _REACH if spec.receptive_field is None else -(-spec.receptive_field // 2)
        self._fade = _FADE if self._sees_all else 0
        self._most_pixels = float("inf")  # in one tile; a failure makes it less
        self._grids: dict[tuple[int, int], Grid] = {}
        self._turnstile = turnstile()

    def __call__(self, images: Images, run: Callable[[Images], Images]) -> Images:
        """The answer of `run` to `images`, shape (N, H, W, 3).

        Raises:
            ModelError: it fails on small tiles too, or tiles were forbidden.
        """
        count, height, width, _ = images.shape
        while True:
            with self._turnstile:
                grid = self._grid(height, width)
            is_whole = grid.pixels == height * width
            try:
                if is_whole and (count == 1 or count * grid.pixels <= self._most()):
                    return run(images)
                if count == 1:
                    return self._joined(images[0], grid, run)[np.newaxis]
                return np.stack([self._joined(image, grid, run) for image in images])
            except (RunFailed, MemoryError) as error:
                with self._turnstile:
                    self._shrink(height, width, grid, error)

    def _grid(self, height: int, width: int) -> Grid:
        """How a picture of that size is cut, decided when the first comes."""
        grid = self._grids.get((height, width))
        if grid is None:
            grid = self._grids[height, width] = self._chosen(height, width)
            if grid.work > height * width:
                cost = "; this network sees the whole picture: tiles change its answer a little"
                self._say(f"{width}x{height} is done in {grid}{cost if self._sees_all else ''}")
        return grid

    def _chosen(self, height: int, width: int) -> Grid:
        """The cut with the least work whose tiles fit; if none does, the smallest within reason."""
        most = self._most()
        cuts = itertools.product(self._cuts(height), self._cuts(width))
        grids = [Grid(rows, columns) for rows, columns in cuts]
        bearable = [grid for grid in grids if grid.work <= _MOST_WORK * height * width] or grids
        fitting = [grid for grid in bearable if grid.pixels <= most]
        if fitting:
            return min(fitting, key=lambda grid: grid.work)
        return min(bearable, key=lambda grid: (grid.pixels, grid.work))

    def _most(self) -> float:
        """Pixels that the network may be given at once."""
        if self._need is None or self._tile != "auto":
            return self._most_pixels
        return min(self._most_pixels, _SHARE * available_bytes() / self._need)

    def _cuts(self, size: int) -> set[Cuts]:
        """Ways to cut a side that are worth considering."""
        if self._tile == "off":
            return {Cuts(size, (0,))}
        least = 1 if self._tile == "auto" else -(-size // self._tile)
        overlap = 2 * self._reach + self._fade
        counts = range(least, max(least, _MOST_CUTS) + 1)
        return {cut(size, count, overlap, self._multiple) for count in counts}

    def _joined(self, image: Images, grid: Grid, run: Callable[[Images], Images]) -> Images:
        whole = np.empty_like(image)
        for top in grid.rows.starts:
            strip = image[top : top + grid.rows.length]
            sharp = np.empty_like(strip)
            for left in grid.columns.starts:
                answer = run(strip[np.newaxis, :, left : left + grid.columns.length])[0]
                self._lay(sharp.swapaxes(0, 1), answer.swapaxes(0, 1), left)
            self._lay(whole, sharp, top)
        return whole

    def _lay(self, target: Images, piece: Images, start: int) -> None:
        """Put a piece at row `start`, but for what did not see enough of the rows before it."""
        if not start:
            target[: len(piece)] = piece
            return
        begin, end = self._reach, self._reach + self._fade
        if self._fade:
            weight = np.arange(1, self._fade + 1, dtype=np.float32) / (self._fade + 1)
            before = target[start + begin : start + end]
            change = piece[begin:end] - before.astype(np.float32)
            before[...] = np.rint(before + weight[:, np.newaxis, np.newaxis] * change)
        target[start + end : start + len(piece)] = piece[end:]

    def _shrink(self, height: int, width: int, failed: Grid, error: Exception) -> None:
        """Make tiles half as large as those that failed.

        Raises:
            ModelError: that cannot be, or may not be.
        """
        if self._grid(height, width).pixels < failed.pixels:
            return  # another thread was quicker
        why = " ".join(str(error).split()) or "there is not enough memory"
        if self._tile == "off":
            raise ModelError(f"{why}; --tile auto takes less memory") from error
        self._most_pixels = min(self._most_pixels, failed.pixels // 2)
        if failed.pixels <= _LEAST_PIXELS or self._chosen(height, width).pixels >= failed.pixels:
            raise ModelError(why) from error
        self._grids.clear()
        self._say(f"{failed.columns.length}x{failed.rows.length} was too much at once: {why}")


def need_of(run: Callable[[Images], Images]) -> float:
    """Bytes of this machine's memory that a network takes for a pixel, measured.

    It must have run before, for what is taken once and for all.
    """
    before = resident_bytes()
    run(np.zeros((1, _PROBE, _PROBE, 3), np.uint8))
    taken = max(0, resident_bytes() - before)
    return _SAFETY * taken / _PROBE**2 + _BYTES_AROUND


def cut(size: int, count: int, overlap: int, multiple: int) -> Cuts:
    """Cover `size` pixels with up to `count` windows that overlap by at least `overlap`.

    All windows but the last begin at multiples of `multiple`, and so does that: the length is
    the least that allows it. One window if more would be as long.
    """
    length = -(-(size + (count - 1) * overlap) // count)
    length += (size - length) % multiple
    while length < size:
        step = (length - overlap) // multiple * multiple
        if step > 0 and length + (count - 1) * step >= size:
            starts = (min(index * step, size - length) for index in range(count))
            return Cuts(length, tuple(dict.fromkeys(starts)))
        length += multiple
    return Cuts(size, (0,))
