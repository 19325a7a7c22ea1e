"""Which files are meant by what stands on the command line, and where their results go."""

from __future__ import annotations

import glob
import os
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from streamdeblur.errors import VideoError
from streamdeblur.live.addresses import live_address
from streamdeblur.video.outputs import default_output, part_name

_IMAGES = (".avif", ".jfif", ".jpe", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
# Pictures that are not read, or could not be written back, by the libraries that are here.
_FOREIGN_IMAGES = (
    *(".bmp", ".dds", ".dpx", ".exr", ".hdr", ".heic", ".heif", ".hif", ".ico", ".jp2", ".jxl"),
    *(".pbm", ".pcx", ".pfm", ".pgm", ".pnm", ".ppm", ".psd", ".sgi", ".tga"),
)
_RAW_IMAGES = (".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2")
_VIDEOS = (
    *(".3g2", ".3gp", ".asf", ".avi", ".divx", ".dv", ".f4v", ".flv", ".gif", ".m2ts", ".m2v"),
    *(".m4v", ".mj2", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".mts", ".mxf", ".ogm", ".ogv"),
    *(".ts", ".vob", ".webm", ".wmv", ".y4m"),
)
_LIVE = ("camera:", "screen:", "lavfi:")  # whose names may hold what patterns do
_RESULT = ".deblurred"  # as in `default_output`
_LEAST_FRAMES = 3  # that make numbered images a sequence


@dataclass(frozen=True, slots=True)
class Task:
    """One file to be deblurred."""

    path: Path
    output: Path
    problem: str = ""
    """Why it cannot be done; empty if nothing is known against it."""

    @property
    def is_image(self) -> bool:
        """Whether it is a still picture, by its name."""
        return is_image(self.path)


def is_image(path: Path) -> bool:
    """Whether a file's name is that of a still picture that can be read and written."""
    return path.suffix.lower() in _IMAGES


def foreign(path: Path) -> str:
    """Why a still picture of this name cannot be deblurred; empty if that is not known."""
    kind = path.suffix.lower()
    if kind not in (*_FOREIGN_IMAGES, *_RAW_IMAGES):
        return ""
    return f"{kind} pictures can't be written back: convert it to .png or .tif first"


def is_file_name(path: Path) -> bool:
    """Whether a name is that of a video or image, and not of a folder."""
    return is_image(path) or path.suffix.lower() in (*_VIDEOS, *_FOREIGN_IMAGES)


def is_image_file(name: str) -> bool:
    """Whether what stands on the command line is a still picture, and not a live one."""
    return is_image(Path(name)) and live_address(name) is None


def are_several(names: list[str]) -> bool:
    """Whether these inputs are a batch: more than one, a folder, or a pattern such as *.mp4."""
    return len(names) > 1 or (bool(names) and (os.path.isdir(names[0]) or _is_pattern(names[0])))


def tasks_of(names: Iterable[str], folder: Path | None, recursive: bool) -> list[Task]:
    """What is to be done, each file once, in the order given.

    A folder stands for the videos and images in it, without results of earlier runs and cameras'
    raw files, which often lie beside an image of each. Results go beside the inputs as
    `NAME.deblurred.EXT`, or into `folder` under the name of the input, below the same subfolders;
    those of a folder of numbered frames into one beside it, under their names.

    Args:
        names: files, folders and patterns.
        folder: where results go; None for beside the inputs.
        recursive: whether subfolders are searched too.

    Returns:
        The tasks; those that cannot be done, for example for want of a name of their own, have a
        `problem`.

    Raises:
        VideoError: there is nothing to do.
    """
    tasks: dict[str, Task] = {}
    for name in names:
        for task in _tasks_of(name, folder, recursive):
            tasks.setdefault(os.path.normcase(os.path.realpath(task.path)), task)
    if not tasks:
        places = ", ".join(names)
        more = "" if recursive else "; --recursive looks into subfolders"
        raise VideoError(f"{places}: there is no video or image{more}")
    return _distinct(list(tasks.values()))


def _tasks_of(name: str, folder: Path | None, recursive: bool) -> Iterator[Task]:
    if os.path.isdir(name):
        yield from _in_folder(Path(name), folder, recursive)
    elif _is_pattern(name):  # which Windows' shells hand over as it is
        matches = [Path(path) for path in sorted(glob.glob(name, recursive=True))]
        files = [path for path in matches if path.is_file() and not _is_result(path)]
        yield from (_task(path, folder) for path in files)
        if not files:
            yield Task(Path(name), Path(name), "no file has such a name")
    elif live_address(name) is not None:
        yield Task(Path(name), Path(name), "is live: give it alone")
    else:
        yield _task(Path(name), folder)


def _task(path: Path, folder: Path | None) -> Task:
    return Task(path, folder / path.name if folder else default_output(path), foreign(path))


def _in_folder(top: Path, folder: Path | None, recursive: bool) -> Iterator[Task]:
    for place, subfolders, names in os.walk(top):
        inside = Path(place)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if recursive and not _is_hidden(name) and not _is_same(inside / name, folder)
            if not name.endswith(_RESULT)
        )
        files = [inside / name for name in sorted(names, key=_in_natural_order)]
        files = [path for path in files if is_file_name(path)]
        files = [path for path in files if not _is_hidden(path.name) and not _is_result(path)]
        if folder:
            target: Path | None = folder / inside.relative_to(top)
        elif _are_frames(files) and (whole := inside.resolve()).name:
            target = whole.with_name(whole.name + _RESULT)
        else:
            target = None
        yield from (_task(path, target) for path in files)


def _are_frames(files: list[Path]) -> bool:
    """Whether files are the frames of a sequence: images numbered one after the other."""
    found = [re.fullmatch(r"(.*?)(\d+)", path.stem) for path in files if is_image(path)]
    matches = [match for match in found if match]
    if len(matches) < max(len(files), _LEAST_FRAMES):
        return False
    names = {match[1] for match in matches}, {path.suffix for path in files}
    first = int(matches[0][2])
    in_order = all(int(match[2]) == first + index for index, match in enumerate(matches))
    return in_order and all(len(each) == 1 for each in names)


def _distinct(tasks: list[Task]) -> list[Task]:
    """The tasks, with a problem where a result would take the place of another or of an input."""
    inputs = {_key(task.path): task.path for task in tasks}
    results: dict[str, Path] = {}
    checked = []
    for task in tasks:
        keys = [_key(path) for path in (task.output, part_name(task.output))]
        if task.problem:
            pass
        elif replaced := [inputs[key] for key in keys if key in inputs]:
            what = f"its result would replace the input {replaced[0]}"
            task = replace(task, problem=f"{what}: choose another folder")
        elif rivals := [results[key] for key in keys if key in results]:
            what = f"its result would have the name of {rivals[0]}'s"
            task = replace(task, problem=f"{what}: do it alone, with -o")
        else:
            results |= dict.fromkeys(keys, task.path)
        checked.append(task)
    return checked


def _key(path: Path) -> str:
    """The same for names that some system takes for one: by case, or by the form of accents."""
    return unicodedata.normalize("NFC", os.path.realpath(path)).casefold()


def _is_pattern(name: str) -> bool:
    is_live = "://" in name or name.startswith(_LIVE)
    return glob.has_magic(name) and not os.path.lexists(name) and not is_live


def _is_same(path: Path, folder: Path | None) -> bool:
    return folder is not None and _key(path) == _key(folder)


def _is_hidden(name: str) -> bool:
    return name.startswith(".")


def _is_result(path: Path) -> bool:
    """Whether a name is that of a result, or of what became of one."""
    stem = re.sub(r"\.interrupted\d*$", ".part", path.stem)
    return stem.endswith((_RESULT, ".part"))


def _in_natural_order(name: str) -> list[tuple[int, str]]:
    """Numbers by their value: frame9 comes before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if index % 2 else (-1, part) for index, part in enumerate(parts)]
