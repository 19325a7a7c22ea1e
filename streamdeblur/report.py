"""A page that tells what was done to files: one HTML file that needs no other, and no network."""

from __future__ import annotations

import argparse
import base64
import html
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from string import Template

import av
from av.error import FFmpegError

from streamdeblur.account import Account, Moment, Point
from streamdeblur.errors import VideoError
from streamdeblur.inputs import is_image
from streamdeblur.live.guard import content_policy
from streamdeblur.video.opening import is_pipe, open_container
from streamdeblur.video.outputs import part_name

_PAGE = Path(__file__).with_name("report.html").read_text(encoding="utf-8")
_MOST_PAIRS = 12  # on a page
# What the command line holds and a report does not tell.
_UNTOLD = {"inputs", "output", "overwrite", "question", "quiet", "report", "verbose"}
_CURVE = (
    "The strength of edges, before and after, in levels (RMS of the gradients at two scales). What"
    " is seen decides it too: compare the curves with each other, not one moment with the next."
)
_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 960, 220, 46, 24  # of the curve, in SVG's units


class Report:
    """A report on one or several files. A context manager: leaving it writes the page.

    Nothing is written if no file was done.

    Args:
        path: the page; its name must end in .html.
        options: the command line's.

    Raises:
        VideoError: it cannot be written there, here or later.
    """

    def __init__(self, path: Path, options: argparse.Namespace) -> None:
        self._path, self._options = path, options
        self._accounts: list[Account] = []
        if path.suffix.lower() not in (".html", ".htm"):
            raise VideoError(f"can't write the report {path}: its name must end in .html")
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
            raise VideoError(f"can't write the report {path}: is there such a folder, and yours?")
        if path.exists() and not options.overwrite:
            raise VideoError(f"{path} exists; pass --overwrite to replace it")

    def account(self, path: Path, output: Path, *, is_image: bool = False) -> Account:
        """A new account, of one file."""
        account = Account(path, output, self._options.strength, is_image=is_image)
        self._accounts.append(account)
        return account

    def settle(self) -> None:
        """Keep only as many pictures as a page shows: called when a file is done."""
        moments = [moment for account in self._accounts for moment in account.moments]
        moments.sort(key=lambda moment: -moment.change)
        shown = {id(moment) for moment in moments[:_MOST_PAIRS]}
        for account in self._accounts:
            account.moments = [each for each in account.moments if id(each) in shown]

    def __enter__(self) -> Report:
        return self

    def blame(self, path: Path, output: Path, problem: str) -> None:
        """Say why a file failed."""
        known = [account for account in self._accounts if account.path == path]
        account = known[-1] if known else self.account(path, output, is_image=is_image(path))
        account.problem = problem

    def __exit__(self, *_: object) -> None:
        told = [account for account in self._accounts if account.facts or account.problem]
        if not any(account.facts for account in told):
            return
        self.settle()
        part = part_name(self._path)
        try:
            part.write_text(page(told, self._options), encoding="utf-8")
            part.replace(self._path)
        except OSError as error:
            raise VideoError(f"can't write {self._path}: {error.strerror}") from error
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


def page(accounts: Sequence[Account], options: argparse.Namespace) -> str:
    """The whole page."""
    several = len(accounts) > 1
    body = [_overview(accounts)] if several else []
    for number, account in enumerate(accounts):
        if not several or not account.is_image or account.moments:
            body.append(_section(account, number))
    body.append(f"<section><h2>Settings</h2>{_table(_settings(options))}</section>")
    title = f"{len(accounts)} files" if several else str(accounts[0].path.name)
    subtitle = f"deblurred by streamdeblur, {datetime.now():%Y-%m-%d %H:%M}"
    filled = Template(_PAGE).substitute(
        policy="$policy", title=html.escape(title), subtitle=subtitle, body="".join(body)
    )
    filled = filled.encode("utf-8", "replace").decode()  # some systems' file names are bytes
    return filled.replace("$policy", content_policy(filled.encode()), 1)


def _overview(accounts: Sequence[Account]) -> str:
    rows = []
    for number, account in enumerate(accounts):
        name = html.escape(str(account.path))
        is_told = not account.is_image or bool(account.moments)
        link = f'<a href="#file{number}">{name}</a>' if is_told else name
        state = f'<span class="bad">{html.escape(account.problem)}</span>'
        state = state if account.problem else html.escape(str(account.output))
        figures = ["", "", ""]
        if account.frames:
            figures = [str(account.frames), f"{account.before:.1f}", f"{account.after:.1f}"]
        rows.append("".join(f"<td>{cell}</td>" for cell in (link, state, *figures)))
    head = "".join(
        f"<th>{name}</th>" for name in ("file", "result", "frames", "edges before", "after")
    )
    body = "".join(f"<tr>{row}</tr>" for row in rows)
    return (
        f"<section><h2>Files</h2><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody></table></section>"
    )


def _section(account: Account, number: int) -> str:
    parts = [f'<section id="file{number}"><h2>{html.escape(str(account.path))}</h2>']
    if account.problem:
        parts.append(f'<p class="bad">{html.escape(account.problem)}</p>')
    moments = sorted(account.moments, key=lambda moment: moment.time)
    pairs = "".join(_pair(moment, account.is_image) for moment in moments)
    parts.append(f'<div class="pairs">{pairs}</div>')
    if len(account.points) > 1:
        parts.append(f"<h3>Sharpness over time</h3>{_curve(account.points)}<p>{_CURVE}</p>")
    facts = dict(account.facts)
    if account.frames:
        facts["edges"] = f"{account.before:.2f} levels before, {account.after:.2f} after (mean)"
    parts.append(f"<h3>What was done</h3>{_table(facts)}")
    if not account.is_image:
        parts.append(_kept(account))
    parts.append("<h3>What could not be kept</h3>")
    parts.append(_list(account.notices, "Nothing was lost that the program knows of."))
    parts.append("<h3>Damage in the input</h3>")
    parts.append(_list(account.damage, "None was met."))
    return "".join([*parts, "</section>"])


def _kept(account: Account) -> str:
    """What the two files hold, beside each other, as they say themselves."""
    pairs = [contents_of(path) for path in (account.path, account.output)]
    rows = {name: None for pair in pairs for name in pair}
    cells = "".join(
        f"<tr><th>{name}</th>"
        + "".join(f"<td>{html.escape(pair.get(name, '-'))}</td>" for pair in pairs)
        + "</tr>"
        for name in rows
    )
    return (
        "<h3>What is in the files</h3><table><thead><tr><th></th><th>input</th><th>output</th></tr>"
        f"</thead><tbody>{cells}</tbody></table>"
    )


def contents_of(path: Path) -> dict[str, str]:
    """Tracks, chapters and tags of a video file, by name; empty if it cannot be read (again)."""
    found: dict[str, str] = {}
    if is_pipe(path):
        return found
    with suppress(VideoError, FFmpegError, OSError), open_container(path) as container:
        found["container"] = f"{container.format.long_name}, {path.stat().st_size / 1e6:,.1f} MB"
        for stream in container.streams:
            context = stream.codec_context
            words = [context.name if context is not None else "data"]
            if isinstance(context, av.VideoCodecContext):
                words.append(f"{context.width}x{context.height} {context.pix_fmt}")
            elif isinstance(context, av.AudioCodecContext):
                words.append(f"{context.sample_rate} Hz, {context.layout.name}")
            words += [stream.language] if stream.language and stream.language != "und" else []
            found[f"track {stream.index}: {stream.type}"] = ", ".join(words)
        found["chapters"] = str(len(container.chapters()))
        tags = {key for key in container.metadata if key.lower() != "encoder"}
        found["tags"] = ", ".join(sorted(tags)) or "none"
    return found


def _pair(moment: Moment, is_image: bool) -> str:
    width, height = moment.size
    pictures = "".join(
        f'<img src="data:image/jpeg;base64,{base64.b64encode(data).decode()}" width="{width}"'
        f' height="{height}" alt="{side}">'
        for data, side in ((moment.before, "before"), (moment.after, "after"))
    )
    part = "; this part is shown" if moment.is_part else ""
    when = "" if is_image else f"at {clock(moment.time)}, "
    return (
        f'<figure><div class="pair">{pictures}<span class="side before">before</span>'
        '<span class="side after">after</span><input type="range" min="0" max="100" value="50"'
        ' step="0.5" aria-label="Divider between before (left) and after (right)"></div>'
        f"<figcaption>{when}changed by {moment.change:.1f} levels (RMS) where it changed most{part}"
        "</figcaption></figure>"
    )


def _curve(points: Sequence[Point]) -> str:
    """Both curves as SVG."""
    values = [value for point in points for value in (point.before, point.after)]
    low, high = min(values), max(values)
    margin = max(0.2, 0.08 * (high - low))
    low, high = low - margin, high + margin
    first, last = points[0].time, points[-1].time

    def x(time: float) -> float:
        return _LEFT + (time - first) / max(last - first, 1e-9) * (_WIDTH - _LEFT - 10)

    def y(value: float) -> float:
        return (high - value) / (high - low) * (_HEIGHT - _BOTTOM - 8) + 8

    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img"'
        ' aria-label="Sharpness over time, before and after">'
    ]
    for step in range(4):
        value, time = low + (high - low) * step / 3, first + (last - first) * step / 3
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - 10}" y1="{y(value):.1f}"'
            f' y2="{y(value):.1f}"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}"'
            f' text-anchor="end">{value:.1f}</text>'
        )
        anchor = ("start", "middle", "middle", "end")[step]
        parts.append(
            f'<text x="{x(time):.1f}" y="{_HEIGHT - 6}" text-anchor="{anchor}">{clock(time)}</text>'
        )
    for side in ("before", "after"):
        line = " ".join(f"{x(point.time):.1f},{y(getattr(point, side)):.1f}" for point in points)
        parts.append(f'<polyline class="curve {side}" points="{line}"/>')
    parts.append(
        f'<text class="key before" x="{_LEFT + 8}" y="20">before</text>'
        f'<text class="key after" x="{_LEFT + 60}" y="20">after</text></svg>'
    )
    return "".join(parts)


def clock(seconds: float) -> str:
    """A moment as people write it: `1:02:03.4`."""
    tenths = round(seconds * 10)
    sign, tenths = "-" if tenths < 0 else "", abs(tenths)
    minutes, rest = divmod(tenths, 600)
    hours, minutes = divmod(minutes, 60)
    start = f"{hours}:{minutes:02}" if hours else f"{minutes}"
    return f"{sign}{start}:{rest // 10:02}.{rest % 10}"


def _settings(options: argparse.Namespace) -> dict[str, str]:
    """What was asked for, and the defaults of what was not."""
    told = {key: value for key, value in vars(options).items() if key not in _UNTOLD}
    return {
        f"--{key.replace('_', '-')}": "default" if value in (None, []) else str(value)
        for key, value in sorted(told.items())
        if value is not False
    }


def _table(rows: Mapping[str, str]) -> str:
    cells = (
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(text)}</td></tr>"
        for name, text in rows.items()
    )
    return f"<table><tbody>{''.join(cells)}</tbody></table>"


def _list(lines: Iterable[str], otherwise: str) -> str:
    items = "".join(f"<li>{html.escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else f"<p>{otherwise}</p>"
