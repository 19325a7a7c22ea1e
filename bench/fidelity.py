"""Measures what stays of a video, format by format, and writes docs/fidelity.md.

The ffmpeg program makes clips in many formats from a sample; `streamdeblur` runs on each with a
network that changes nothing, once by default and once through the lossless FFV1; and other
programs (ffprobe, ffmpeg, mediainfo where it is installed) compare what came out with what went in.

    python -m bench.fidelity                  # prints the table
    python -m bench.fidelity --write          # and writes the page
    python -m bench.fidelity --only hdr       # rows with that in their name
"""

from __future__ import annotations

import io
import json
import multiprocessing
import re
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from bench import harness
from bench.formats import ROWS, Row, make, said
from streamdeblur.cli import main as command
from tests.tiny_onnx import identity

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "fidelity.md"


@dataclass(frozen=True)
class Cell:
    """What was measured of one promise."""

    sign: str
    """`✓` kept, `✗` not kept, `said` not kept and said before the work, `-` nothing to keep,
    `?` not measured."""
    why: str = ""


@dataclass
class Seen:
    """A file as other programs see it."""

    path: Path
    report: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shown = ["-show_streams", "-show_format", "-show_chapters", "-show_frames"]
        kinds = ["-select_streams", "v:0"]
        self.report = _json("ffprobe", "-v", "error", *shown[1:3], "-show_streams", str(self.path))
        frames = _json("ffprobe", "-v", "error", *kinds, shown[3], str(self.path))["frames"]
        self.frames: list[dict[str, Any]] = frames
        self.picture = next(s for s in self.report["streams"] if s["codec_type"] == "video")

    def times(self) -> list[Fraction | None]:
        """When each frame is shown, in seconds, exactly; None where the file does not say."""
        base = Fraction(self.picture["time_base"])
        ticks = [frame.get("best_effort_timestamp") for frame in self.frames]
        return [None if tick is None else int(tick) * base for tick in ticks]

    def colours(self) -> dict[str, Any]:
        """Layout and colour tags."""
        names = "color_range", "color_space", "color_primaries", "color_transfer"
        return {name: self.picture.get(name, "unknown") for name in names}

    def side_data(self, words: str) -> list[dict[str, Any]]:
        """Side data of the first frame, or of the stream, whose names hold `words`."""
        both = *self.frames[0].get("side_data_list", ()), *self.picture.get("side_data_list", ())
        return [item for item in both if words in item["side_data_type"]][:1]

    def packets(self, kind: str) -> list[tuple[Fraction | None, str]]:
        """Time, in seconds, and a checksum of each packet of the tracks of a kind."""
        tracks = {s["index"]: s for s in self.report["streams"] if s["codec_type"] == kind}
        shown = ["-show_entries", "packet=stream_index,pts,data_hash", "-show_data_hash", "md5"]
        packets = _json("ffprobe", "-v", "error", *shown, str(self.path)).get("packets", [])
        return [
            (_seconds(packet, tracks[packet["stream_index"]]), packet["data_hash"])
            for packet in packets
            if packet["stream_index"] in tracks
        ]

    def samples(self, layout: str) -> list[str]:
        """A checksum of each decoded picture."""
        exact = ["-sws_flags", "accurate_rnd+bitexact", "-fps_mode", "passthrough"]
        command = ["ffmpeg", "-v", "error", "-noautorotate", "-i", str(self.path), "-map", "0:v:0"]
        lines = said(*command, *exact, "-pix_fmt", layout, "-f", "framemd5", "-").splitlines()
        return [line.split()[-1] for line in lines if not line.startswith("#")]

    def tags(self) -> dict[str, str]:
        """Of the whole file."""
        own = {"encoder", "major_brand", "minor_version", "compatible_brands", "duration"}
        own.add("software")  # which is the encoder of an AVI
        tags = self.report["format"].get("tags", {})
        return {key.lower(): text for key, text in tags.items() if key.lower() not in own}

    def chapters(self) -> list[tuple[str, str, str]]:
        """Begin, end and title of each."""
        return [
            (item["start_time"], item["end_time"], item.get("tags", {}).get("title", ""))
            for item in self.report["chapters"]
        ]

    def attachments(self) -> list[tuple[str, int]]:
        """Name and size of each."""
        kinds = [s for s in self.report["streams"] if s["codec_type"] == "attachment"]
        return [(s["tags"]["filename"], s.get("extradata_size", 0)) for s in kinds]


def measured(row: Row, folder: Path) -> dict[str, Cell]:
    """The cells of a row."""
    source = folder / f"clip.{row.file}"
    make(row, source)
    notices = _deblurred(source, folder / "out" / source.name)
    lossless = folder / "out" / "lossless.mkv"
    _deblurred(source, lossless, "--codec", "ffv1", "--deinterlace", "off")
    old, new = Seen(source), Seen(folder / "out" / source.name)
    cells = {name: check(old, new, lossless) for name, check in PROMISES.items()}
    for name, cell in cells.items():
        words = [line for line in notices if re.search(_WORDS.get(name, "$^"), line)]
        if cell.sign == "✗" and words:
            cells[name] = Cell("said", words[0])
    return cells


def _frames(old: Seen, new: Seen, _: Path) -> Cell:
    return _same(len(old.frames), len(new.frames))


def _times(old: Seen, new: Seen, _: Path) -> Cell:
    return _same(old.times(), new.times())


def _samples(old: Seen, _: Seen, lossless: Path) -> Cell:
    layout = old.picture["pix_fmt"].replace("bgr0", "gbrp")  # whose fourth byte means nothing
    before = old.samples(layout)
    try:
        after = Seen(lossless).samples(layout)
    except RuntimeError:
        return Cell("?", "this ffmpeg can't decode the FFV1 file")
    wrong = sum(one != other for one, other in zip(before, after, strict=False))
    return _same(before, after, f"{wrong} of {len(before)} frames differ")


def _layout(old: Seen, new: Seen, _: Path) -> Cell:
    one, other = (seen.picture["pix_fmt"].replace("yuvj", "yuv") for seen in (old, new))
    return _same(one, other)


def _colours(old: Seen, new: Seen, _: Path) -> Cell:
    before = old.colours()
    if set(before.values()) == {"unknown"} == set(new.colours().values()):
        return Cell("-")
    return _same(before, new.colours())


def _hdr(old: Seen, new: Seen, _: Path) -> Cell:
    kinds = ("Mastering display", "Content light")
    before, after = ([seen.side_data(kind) for kind in kinds] for seen in (old, new))
    return _same(before, after) if any(before) else Cell("-")


def _rotation(old: Seen, new: Seen, _: Path) -> Cell:
    before, after = (seen.side_data("Display Matrix") for seen in (old, new))
    return _same(before, after) if before else Cell("-")


def _aspect(old: Seen, new: Seen, _: Path) -> Cell:
    before, after = (seen.picture.get("sample_aspect_ratio", "1:1") for seen in (old, new))
    return _same(before, after) if before not in ("1:1", "0:1") else Cell("-")


def _fields(old: Seen, new: Seen, _: Path) -> Cell:
    if not old.frames[0].get("interlaced_frame"):
        return Cell("-")
    names = "interlaced_frame", "top_field_first"
    return _same(*([seen.frames[0].get(name) for name in names] for seen in (old, new)))


def _alpha(old: Seen, new: Seen, _: Path) -> Cell:
    before, after = map(_has_alpha, (old, new))
    return _same(before, after) if before else Cell("-")


def _has_alpha(seen: Seen) -> bool:
    layout, tags = seen.picture["pix_fmt"], seen.picture.get("tags", {})
    is_hidden = tags.get("alpha_mode") == "1" or tags.get("ALPHA_MODE") == "1"
    return is_hidden or bool(re.match(r"(yuva|ya\d|gbrap|argb|rgba|bgra|abgr)", layout))


def _sound(old: Seen, new: Seen, _: Path) -> Cell:
    before = old.packets("audio")
    return _same(before, new.packets("audio"), "packets or times differ") if before else Cell("-")


def _subtitles(old: Seen, new: Seen, _: Path) -> Cell:
    before = old.packets("subtitle")
    return (
        _same(before, new.packets("subtitle"), "packets or times differ") if before else Cell("-")
    )


def _attachments(old: Seen, new: Seen, _: Path) -> Cell:
    return _same(old.attachments(), new.attachments()) if old.attachments() else Cell("-")


def _chapters(old: Seen, new: Seen, _: Path) -> Cell:
    return _same(old.chapters(), new.chapters()) if old.chapters() else Cell("-")


def _tags(old: Seen, new: Seen, _: Path) -> Cell:
    return _same(old.tags(), new.tags()) if old.tags() else Cell("-")


def _plays(_: Seen, new: Seen, __: Path) -> Cell:
    """Whether ffmpeg decodes all of it without a word, and mediainfo sees its picture."""
    command = ["ffmpeg", "-v", "warning", "-xerror", "-i", str(new.path), "-map", "0:v", "-map"]
    done = subprocess.run([*command, "0:a?", "-f", "null", "-"], capture_output=True, text=True)
    if done.returncode or "Invalid" in done.stderr or "rror" in done.stderr:
        return Cell("✗", (done.stderr.splitlines() or ["ffmpeg failed"])[-1])
    if shutil.which("mediainfo"):
        width = said("mediainfo", "--Inform=Video;%Width%", str(new.path)).strip()
        if width and width != str(new.picture["width"]):  # of some formats it tells none
            return Cell("✗", f"mediainfo sees a width of {width}")
    return Cell("✓")


def _likeness(old: Seen, new: Seen, _: Path) -> Cell:
    """PSNR of the default encoding against the input, in dB."""
    inputs = [part for seen in (new, old) for part in ("-noautorotate", "-i", str(seen.path))]
    count = ",".join(("setpts=N", "settb=1/25"))
    graph = f"[0:v]{count}[a];[1:v]{count}[b];[a][b]psnr"
    command = ["ffmpeg", "-v", "info", *inputs, "-lavfi", graph, "-f", "null", "-"]
    printed = subprocess.run(command, capture_output=True, text=True).stderr
    found = re.search(r"average:(\S+)", printed)
    return Cell("✗", "not measured") if not found else Cell(_rounded(found[1]))


def _rounded(decibels: str) -> str:
    return "∞" if decibels == "inf" else f"{float(decibels):.1f}"


Check = Callable[[Seen, Seen, Path], Cell]
PROMISES: dict[str, Check] = {
    "frames": _frames,
    "times": _times,
    "samples": _samples,
    "layout": _layout,
    "colours": _colours,
    "HDR": _hdr,
    "rotation": _rotation,
    "pixel aspect": _aspect,
    "fields": _fields,
    "alpha": _alpha,
    "sound": _sound,
    "subtitles": _subtitles,
    "attachments": _attachments,
    "chapters": _chapters,
    "tags": _tags,
    "plays": _plays,
    "PSNR": _likeness,
}
# What a line about each says.
_WORDS = {
    "times": "frame rate|milliseconds",
    "layout": "picture becomes|video becomes",
    "colours": "picture becomes|video becomes",
    "HDR": "HDR",
    "pixel aspect": "pixel aspect",
    "fields": "interlace|fields",
    "alpha": "transparency",
    "sound": "audio.* left out",
    "subtitles": "subtitle.* left out",
    "attachments": "left out",
    "tags": "tags",
}


def _same(before: object, after: object, words: str = "") -> Cell:
    if before == after:
        return Cell("✓")
    return Cell("✗", words or f"{_brief(before)} becomes {_brief(after)}")


def _brief(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {text}" for key, text in value.items())
    text = str(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _deblurred(source: Path, output: Path, *options: str) -> list[str]:
    """Run the command with a network that changes nothing; what it said before it began."""
    output.parent.mkdir(exist_ok=True)
    model = source.with_name("identity.onnx")
    model.write_bytes(identity())
    with redirect_stderr(io.StringIO()) as told:
        code = command([str(source), "-o", str(output), "-f", "-m", str(model), *options])
    lines = [line.removeprefix("streamdeblur: ") for line in told.getvalue().splitlines()]
    if code:
        raise RuntimeError(f"{output.name}: {lines[-1]}")
    return lines[1:-1]


def _seconds(packet: dict[str, Any], track: dict[str, Any]) -> Fraction | None:
    return packet["pts"] * Fraction(track["time_base"]) if "pts" in packet else None


def _json(*command: str) -> dict[str, Any]:
    report: dict[str, Any] = json.loads(said(*command, "-of", "json"))
    return report


def page(rows: Sequence[tuple[Row, dict[str, Cell]]]) -> str:
    """The table in Markdown, with a footnote for each cell that needs one."""
    notes: list[str] = []

    def written(cell: Cell) -> str:
        if not cell.why:
            return cell.sign
        if cell.why not in notes:
            notes.append(cell.why)
        return f"{cell.sign} {notes.index(cell.why) + 1}"

    lines = [
        "| format | " + " | ".join(PROMISES) + " |",
        "|---" * (len(PROMISES) + 1) + "|",
        *(
            f"| {row.name} | " + " | ".join(map(written, cells.values())) + " |"
            for row, cells in rows
        ),
    ]
    return "\n".join(lines) + "\n\n" + "\n".join(f"{n}. {text}" for n, text in enumerate(notes, 1))


def _measured_apart(row: Row) -> dict[str, Cell]:
    with tempfile.TemporaryDirectory() as folder:
        return measured(row, Path(folder))


def _write(table: str) -> None:
    before, begin, rest = PAGE.read_text().partition("<!-- the table -->\n")
    _, end, after = rest.partition("<!-- its end -->\n")
    PAGE.write_text(f"{before}{begin}{table}\n{end}{after}")


def main() -> int:
    """Measure, print, and write the page if asked."""
    parser = harness.parser("bench.fidelity", __doc__)
    parser.add_argument("--only", default="", metavar="WORDS", help="rows with these in their name")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.relative_to(ROOT)}")
    parser.add_argument("--jobs", type=int, metavar="N", help="rows at a time (default: cores)")
    args = parser.parse_args()
    wanted = [row for row in ROWS if args.only.lower() in row.name.lower()]
    if not wanted:
        parser.error(f"no row has {args.only!r} in its name")
    rows = []
    with multiprocessing.Pool(args.jobs) as pool:
        for row, cells in zip(wanted, pool.imap(_measured_apart, wanted), strict=True):
            rows.append((row, cells))
            signs = ", ".join(f"{name} {cell.sign}" for name, cell in cells.items())
            print(f"{row.name}: {signs}", flush=True)
            for name, cell in cells.items():
                if cell.why:
                    print(f"    {name}: {cell.why}")
    if args.write:
        _write(page(rows))
    return 0


if __name__ == "__main__":
    harness.command(main)
