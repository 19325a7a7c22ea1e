"""The command line: its options, and their help."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import cache
from typing import Any

from streamdeblur import values

_EXAMPLES = """\
examples:
  streamdeblur holiday.mp4             writes holiday.deblurred.mp4 beside it
  streamdeblur holiday.mp4 -o sharp.mkv --crf 12
  streamdeblur holiday.mp4 --start 1:30 --duration 10 --compare
                                       ten seconds, before and after together
  streamdeblur holiday/ -o sharp/      every video and image of a folder
  streamdeblur holiday.mp4 --model my.onnx --device cuda
  ffmpeg -i in.avi -f nut - | streamdeblur - -o - | ffmpeg -i - out.mp4
                                       in a pipe, every frame of it
  streamdeblur 0                       shows the first camera; q quits, h helps
  streamdeblur rtsp://10.0.0.7/stream -o sharp.mp4
                                       shows a network camera and records it
  streamdeblur 0 --virtual-cam --no-preview
                                       a sharp camera for video calls
  streamdeblur 0 --serve 8000          shows it in a browser on this computer

exit codes:
  0 done, 1 failed (one line says why), 2 wrong usage, 130 stopped by Ctrl-C,
  141 the reader of standard output has left, 143 terminated; for what is live
  Ctrl-C and a reader that leaves are the normal end, 0
"""


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line, by default the process's own.

    Raises:
        SystemExit: it is wrong (2), or only asked for help (0).
    """
    parser = _parser()
    options = parser.parse_intermixed_args(argv)  # inputs may stand between options
    if not options.inputs and options.question is None:
        parser.error("name a video or image file, a camera or a stream; --help says more")
    if options.resume and options.skip_sharp:
        parser.error("what --skip-sharp skips depends on the frames before: leave out --resume")
    if options.benchmark and options.question != "doctor":
        parser.error("--benchmark is a part of --doctor")
    if options.serve and options.compare and not (options.output or options.preview):
        parser.error("the page has a divider between before and after: leave out --compare")
    return options


def default(name: str) -> Any:
    """What an option is that is not given."""
    return _parser().get_default(name)


@cache
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamdeblur",
        usage="streamdeblur INPUT... [-o OUTPUT] [OPTIONS]",
        description="Remove motion blur from videos and images, or live from a camera or stream.\n"
        "Sound, subtitles, timing, rotation and colours stay as they are.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,  # so that a new option never changes what an old command means
    )
    add = parser.add_argument
    add(
        "inputs",
        metavar="INPUT",
        nargs="*",
        help="video and image files, folders of them, patterns such as *.jpg; a camera, by number "
        "(0), device or camera:NAME; a screen (screen:); a stream (rtsp://, rtmp://, http://, "
        "udp://...); - for standard input",
    )
    add(
        "-o",
        "--output",
        action="append",
        default=[],
        metavar="OUTPUT",
        help="default: INPUT.deblurred.EXT for a file, none for what is live; a folder for several "
        "inputs; what is live may have several: files, rtsp://, rtmp://, udp://, NAME.m3u8, - for "
        "standard output",
    )
    add("--format", metavar="NAME",
        help="container of OUTPUT, by FFmpeg's name: matroska, mpegts, mp4, nut, yuv4mpegpipe, "
        "rawvideo; default: by its name, for - that of the input or matroska")  # fmt: skip
    add("--input-format", metavar="NAME",
        help="FFmpeg's name of INPUT's format, for example rawvideo")  # fmt: skip
    add("--input-option", type=values.pair, action="append", default=[], metavar="K=V",
        help="for that format: video_size=1280x720, pixel_format=nv12, framerate=30; may be "
        "repeated")  # fmt: skip
    add("-f", "--overwrite", action="store_true", help="replace OUTPUT if it exists")
    add("--report", metavar="FILE.html",
        help="write a page that shows what was changed, kept and lost in files")  # fmt: skip
    add("--recursive", action="store_true", help="look for files in subfolders too")
    add("--resume", action="store_true",
        help="keep what is done when interrupted, and go on there the next time; skip files that "
        "are done, of the same input and settings")  # fmt: skip
    question: dict[str, Any] = {"action": "store_const", "dest": "question"}
    add("--version", **question, const="version", help="show the program's version and exit")

    add = parser.add_argument_group("network").add_argument
    add(
        "-m",
        "--model",
        metavar="NAME|FILE",
        default="fast",
        help="a bundled model or an ONNX file (default: %(default)s)",
    )
    add("--list-models", **question, const="models", help="show the bundled models and exit")
    add("--doctor", **question, const="doctor",
        help="show what works on this machine, and what is missing for the rest")  # fmt: skip
    add("--benchmark", action="store_true",
        help="with --doctor: measure every device, for auto to go by")  # fmt: skip
    add(
        "--device",
        metavar="NAME",
        default="auto",
        help="cpu, cuda, tensorrt, openvino, or another provider that the installed ONNX Runtime "
        "has, such as directml or coreml; auto: what --doctor --benchmark found to be quickest, "
        "else an NVIDIA GPU that works, OpenVINO in bf16, or the processor "
        "(default: %(default)s)",
    )
    add(
        "--precision",
        choices=("auto", "fp32", "fp16", "bf16", "int8"),
        default="auto",
        help="of the arithmetic; auto: below fp32 only where the model's file says that the loss "
        "was accepted (default: %(default)s)",
    )
    add("--gpu", type=values.whole(0), default=0, metavar="N",
        help="which GPU (default: %(default)s)")  # fmt: skip
    add("--threads", type=values.whole(1), metavar="N", help="for the network; default: one a core")
    add("--tile", type=values.tile, default="auto", metavar="auto|N|off",
        help="do large pictures in tiles of N pixels; auto: if they do not fit into the memory "
        "(default: %(default)s)")  # fmt: skip
    add("--views", type=int, choices=(1, 2, 4), default=1,
        help="of files: do each picture as often, mirrored otherwise each time, and take the mean, "
        "which is a little better (default: %(default)s)")  # fmt: skip

    add = parser.add_argument_group("picture").add_argument
    add(
        "--strength",
        type=values.up_to(1),
        default=1.0,
        metavar="0..1",
        help="how much of the correction is applied (default: %(default)s)",
    )
    add("--deinterlace", choices=("auto", "on", "off"), default="auto",
        help="make progressive frames of interlaced ones: of those that say so, of all, or of none "
        "(default: %(default)s)")  # fmt: skip
    add("--compare", action="store_true", help="show before and after side by side")
    add("--skip-sharp", action="store_true",
        help="spare the network frames of a file that are sharp already")  # fmt: skip
    add("--start", type=values.moment, metavar="T", help="skip to T: seconds or [HH:]MM:SS[.fff]")
    add("--duration", type=values.duration, metavar="T",
        help="stop after T, written in the same way")  # fmt: skip

    add("--decoder", metavar="NAME", default="software",
        help="software, a GPU's such as cuda, or auto, which takes one that works; those do not "
        "report damage (default: %(default)s)")  # fmt: skip

    _add_live_options(parser)
    add = parser.add_argument_group("encoding of the output").add_argument
    add("--codec", metavar="NAME", help="h264, hevc, av1, vp9, prores, ffv1 or an FFmpeg encoder; "
        "nvenc, qsv, amf, videotoolbox, or gpu for any of them; default: as the input")  # fmt: skip
    add("--crf", type=values.whole(0), metavar="N", help="quality: lower is better and larger")
    add("--preset", metavar="NAME", help="the encoder's speed, for example veryfast or slow")
    add(
        "--encoder-option",
        type=values.pair,
        action="append",
        default=[],
        metavar="K=V",
        help="any other option of the encoder; may be repeated",
    )

    talk = parser.add_argument_group("messages").add_mutually_exclusive_group()
    talk.add_argument("--quiet", action="store_true",
        help="say nothing but errors, and where the page is")  # fmt: skip
    talk.add_argument("--verbose", action="store_true", help="say more of what is done")
    return parser


def _add_live_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("cameras, screens and streams").add_argument
    add("--list-cameras", action="store_const", dest="question", const="cameras",
        help="show the cameras of this computer and exit")  # fmt: skip
    add("--camera-size", type=values.size, metavar="WxH", help="picture to ask for: 1280x720")
    add("--camera-rate", type=values.rate, metavar="N", help="frames a second to ask for")
    add("--camera-format", metavar="NAME", help="layout or codec to ask for: yuyv422, mjpeg")
    add("--rtsp-transport", choices=("tcp", "udp"), default="tcp", help="default: %(default)s")
    add("--retry", type=values.seconds, default=30.0, metavar="SECONDS",
        help="how long to look for a source that was lost (default: %(default)g)")  # fmt: skip
    add("--no-sound", action="store_true",
        help="leave the sound of a stream out of what is recorded or sent")  # fmt: skip
    add("--realtime", action="store_true", help="play a file at its own pace, like a camera")
    add("--max-latency", type=values.whole(1), metavar="MS",
        help="step down when the delay exceeds this; default: when frames are dropped")  # fmt: skip
    add("--keep-model", action="store_true", help="never step down to a faster choice")
    add("--preview", action=argparse.BooleanOptionalAction,
        help="show a window, or none; default: one, unless there is --serve")  # fmt: skip
    add("--serve", type=values.place, metavar="[HOST:]PORT",
        help="show what is live in a web page, on 127.0.0.1 or HOST")  # fmt: skip
    add("--virtual-cam", action="store_true", help="be a camera for other programs")
