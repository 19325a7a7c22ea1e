"""Which encoder writes the picture, in which layout, with which options, and what that costs."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

import av
from av.codec.codec import UnknownCodecError

from streamdeblur.correction import planar_layout
from streamdeblur.errors import VideoError
from streamdeblur.frames import VideoInfo
from streamdeblur.video.containers import MATROSKA, MOV_FAMILY, RAW, takes_encoder, takes_raw
from streamdeblur.video.encoder_settings import Wishes, options_for
from streamdeblur.video.hardware import MAKERS, encoder_failure, encoders, host_layouts
from streamdeblur.video.layouts import distance, fits, losses, traits

_FAMILIES = {
    # The codec of the input, and the encoder that keeps it.
    "h264": "libx264",
    "hevc": "libx265",
    "av1": "libsvtav1",
    "vp9": "libvpx-vp9",
    "prores": "prores_ks",
    "ffv1": "ffv1",
}
_ALIASES = {**_FAMILIES, "h265": "libx265", "x264": "libx264", "x265": "libx265"}
# In the order tried when the input's own codec cannot be written: by how many players know them.
_SUBSTITUTES = ("libx264", "libx265", "libvpx-vp9", "libsvtav1", "ffv1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding:
    """A decision: how the picture is encoded."""

    encoder: str
    """FFmpeg's name of the encoder."""
    pix_fmt: str
    """FFmpeg's name of the layout that it is given."""
    options: dict[str, str]
    """The encoder's options."""
    notices: tuple[str, ...] = ()
    """What differs from the input, one line each."""


def choose_encoding(
    info: VideoInfo, size: tuple[int, int], container: str, wishes: Wishes
) -> Encoding:
    """Decide how a video like `info` is encoded at `size` (width, height in pixels).

    Args:
        info: of the video.
        size: of the picture to encode.
        container: what must hold the result, by FFmpeg's name.
        wishes: what is asked for.

    Raises:
        VideoError: there is no such encoder, or the container takes none.
    """
    codec = wishes.codec
    if container in RAW:
        given = {"codec": codec not in (None, "rawvideo"), "crf": wishes.crf is not None}
        given |= {"preset": wishes.preset is not None, "encoder-option": bool(wishes.options)}
        if useless := [name for name, is_given in given.items() if is_given]:
            what = f"{container} holds pictures that are not encoded"
            raise VideoError(f"{what}: leave out --{useless[0]}")
        return _raw(info, container)
    hardware, codec = (codec, None) if codec in ("gpu", *MAKERS) else (None, codec)
    wanted = _named(codec) if codec else _FAMILIES.get(info.codec, "libx264")
    if codec and not takes_encoder(container, wanted):
        raise VideoError(f"{container} files can't hold {codec} video: choose another --codec")
    if codec and not _codes(wanted, size):
        raise VideoError(f"{wanted} can't code {size[0]}x{size[1]} pixels: choose another --codec")
    encoder = wanted if codec else _best(info, size, wanted, container, wishes.live)
    becomes = []
    if not codec and encoder != _FAMILIES.get(info.codec):
        is_rare = encoder == "ffv1" and container in MOV_FAMILY
        hint = ", which few players open: with --codec h264 all do, and it loses more"
        becomes = [f"the video becomes {_plain(encoder)} (it was {info.codec}){hint * is_rare}"]
    aim = planar_layout(av.VideoFormat(info.pix_fmt))
    if wishes.live:
        aim = _shown_by_all(aim, encoder)
    if hardware:
        encoder, told = _accelerated(aim, size, encoder, container, hardware)
        becomes += told
    layout, changes = _layout(info, aim, size, encoder, container)
    if encoder == "rawvideo" and not takes_raw(container, layout):
        raise VideoError(f"{container} files can't hold raw {layout}: use .nut or --codec ffv1")
    options = options_for(info, encoder, wishes)
    return Encoding(encoder=encoder, pix_fmt=layout, options=options, notices=(*becomes, *changes))


def _accelerated(
    aim: str, size: tuple[int, int], software: str, container: str, wish: str
) -> tuple[str, list[str]]:
    """A hardware encoder that does all that `software` would do, and what a person should know.

    Args:
        aim: the layout that is to come as close as they can.
        size: of the pictures, (width, height) in pixels.
        software: the encoder on the processor.
        container: FFmpeg's name of it.
        wish: `gpu`, or a maker.

    Raises:
        VideoError: that of the maker asked for does not.
    """
    family = av.Codec(software, "w").canonical_name
    usual = losses(aim, _nearest(aim, software, size, container))
    failures = []
    for name in encoders(family) if wish == "gpu" else [f"{family}_{wish}"]:
        layout = _nearest(aim, name, size, container) if name in av.codecs_available else aim
        failure = encoder_failure(name, layout, size)
        if not failure and not takes_encoder(container, name):
            failure = "the container does not hold what it makes"
        lost = [loss for loss in losses(aim, layout) if loss not in usual]
        if not failure and lost:
            failure = f"it loses {' and '.join(lost)}"
        if not failure:
            return name, [f"encoded by {name}"]
        failures.append(f"{name}: {failure}")
    why = "; ".join(failures) or f"this FFmpeg has no hardware encoder for {family}"
    if wish != "gpu":
        raise VideoError(f"can't encode with {why}; --codec {family} encodes on the processor")
    return software, [f"encoded on the processor: {why}"]


def _raw(info: VideoInfo, container: str) -> Encoding:
    """Pictures as they are: in the layout of the input, or for Y4M the nearest that it names."""
    layout = info.pix_fmt
    if container == "yuv4mpegpipe":
        source = planar_layout(av.VideoFormat(info.pix_fmt))
        layout = min(_Y4M, key=lambda name: distance(source, name))
    lost = losses(info.pix_fmt, layout)
    notices = [f"the picture becomes {layout}"] * (layout != info.pix_fmt)
    if lost:
        notices = [f"the picture becomes {layout} and loses {' and '.join(lost)}"]
    if "transparency" in lost:
        raise VideoError("the video has transparency, which Y4M can't keep: use --format nut")
    return Encoding(encoder="rawvideo", pix_fmt=layout, options={}, notices=tuple(notices))


# fmt: off
_Y4M = [
    "gray", "yuv411p", "yuv420p", "yuv422p", "yuv444p", "gray10le", "gray12le", "gray16le",
    *(f"yuv{grid}p{depth}le" for grid in (420, 422, 444) for depth in (9, 10, 12, 14, 16)),
]
# fmt: on


def similar(name: str, known: Iterable[str]) -> str:
    """Names close to a mistyped one, as the end of a message; empty if there are none."""
    close = difflib.get_close_matches(name, sorted(known), n=4, cutoff=0.5)
    return f"; did you mean {' or '.join(close)}?" if close else ""


def _named(codec: str) -> str:
    """The encoder that a user means by a name."""
    name = _ALIASES.get(codec, codec)
    try:
        found = av.Codec(name, "w")
    except UnknownCodecError as error:
        known = {"gpu", *MAKERS, *_ALIASES, *filter(_is_video_encoder, av.codecs_available)}
        raise VideoError(f"there is no video encoder {codec}{similar(codec, known)}") from error
    if found.type != "video":
        raise VideoError(f"{codec} encodes {found.type}, not video: choose another --codec")
    return str(found.name)


def _is_video_encoder(name: str) -> bool:
    try:
        return av.Codec(name, "w").type == "video"
    except UnknownCodecError:
        return False


def _best(info: VideoInfo, size: tuple[int, int], wanted: str, container: str, live: bool) -> str:
    """`wanted` if it loses nothing that the layout holds, else the first other that does not."""
    known = dict.fromkeys((wanted, *_SUBSTITUTES))
    candidates = [name for name in known if takes_encoder(container, name) and _codes(name, size)]
    if not candidates:
        raise VideoError(f"{container} files can't hold video that this program encodes: use .mkv")
    if candidates[0] == "prores_ks":
        return "prores_ks"  # who edits ProRes needs ProRes; 4444 is coded with 10 of its 12 bits
    source = planar_layout(av.VideoFormat(info.pix_fmt))
    if (has_alpha := traits(source).alpha and not live) and takes_encoder(container, "prores_ks"):
        candidates.append("prores_ks")
    lost = {name: losses(source, _nearest(source, name, size, container)) for name in candidates}
    if has_alpha:  # rather than any other loss
        candidates = [name for name in candidates if "transparency" not in lost[name]]
        if not candidates:
            raise VideoError(
                f"the video has transparency, which {container} files can't keep: use .mkv or .mov,"
                " or pass --codec h264 to leave it out"
            )
    kept = [name for name in candidates if not set(lost[name]) - {"transparency"}]
    return (kept or candidates)[0]


def _codes(encoder: str, size: tuple[int, int]) -> bool:
    """Whether an encoder survives a size: up to a width of 48, x265 writes beyond its memory."""
    return encoder != "libx265" or size[0] > 48


def _layout(
    info: VideoInfo, aim: str, size: tuple[int, int], encoder: str, container: str
) -> tuple[str, list[str]]:
    """The layout nearest to `aim` that the encoder takes at this size, and what it costs."""
    source = planar_layout(av.VideoFormat(info.pix_fmt))
    best = _nearest(aim, encoder, size, container)
    if traits(best) == traits(source):
        is_float = av.VideoFormat(info.pix_fmt).components[0].bits > 16
        return best, [f"{info.pix_fmt} is rounded to 16 bits a sample"] if is_float else []
    lost = losses(source, best)
    cost = f" and loses {' and '.join(lost)}" if lost else ""
    is_odd = _keeps_chroma_whole(encoder) and not fits(source, size)
    odd = f" at {size[0]}x{size[1]}, an odd size" if is_odd else ""
    if traits(best) == traits(aim):
        return best, [f"the picture becomes {best}{cost}, so that every player shows it"]
    return best, [f"the picture becomes {best}{cost}: {encoder} can't code {source}{odd}"]


def _shown_by_all(source: str, encoder: str) -> str:
    """What every player shows of an encoder's codec, as good as `source` as far as that goes.

    Most cameras and screens give more colour than players know of H.264 and HEVC.
    """
    most = {"h264": 8, "hevc": 10}.get(av.Codec(encoder, "w").canonical_name)
    if most is None:
        return source
    return "yuv420p10le" if min(traits(source).depth, most) > 8 else "yuv420p"


def _nearest(source: str, encoder: str, size: tuple[int, int], container: str) -> str:
    """The encoder's layout that loses least of `source`, then wastes least, then is planar.

    Transparency is kept rather than anything else.
    """
    layouts = host_layouts(encoder)
    if _keeps_chroma_whole(encoder):
        layouts = [name for name in layouts if fits(name, size)]
    opaque = [name for name in layouts if not traits(name).alpha]
    clear = [name for name in layouts if _keeps_alpha(encoder, name, container)]
    layouts = clear if traits(source).alpha and clear else opaque or clear

    def unlikeness(name: str) -> tuple[int, ...]:
        is_packed = planar_layout(av.VideoFormat(name)) != name
        return (*distance(source, name), is_packed)

    return min(layouts, key=unlikeness, default=source)


def _keeps_chroma_whole(encoder: str) -> bool:
    """H.264 and HEVC crop in steps of the chroma grid: no odd size is possible in 4:2:0."""
    return av.Codec(encoder, "w").canonical_name in ("h264", "hevc")


def _keeps_alpha(encoder: str, layout: str, container: str) -> bool:
    """Whether a layout has transparency that comes out again in the end."""
    if not traits(layout).alpha:
        return False
    if encoder == "libvpx-vp9":  # which gives it beside each packet: only Matroska has a place
        return container in MATROSKA and layout == "yuva420p"  # with others it does not open
    return encoder not in ("libvpx", "libx265")  # nor do these


def _plain(encoder: str) -> str:
    """The codec that an encoder writes, as people call it."""
    names = {
        "libx264": "H.264",
        "libx265": "HEVC",
        "libvpx-vp9": "VP9",
        "libsvtav1": "AV1",
        "ffv1": "FFV1",
    }
    return names.get(encoder, encoder)
