"""Clips in many formats, made from a sample by the ffmpeg program."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

SAMPLE = Path(__file__).parent.parent / "samples" / "gallery.mp4"
_SECONDS = 0.48
_SUBTITLES = "1\n00:00:00,040 --> 00:00:00,240\nhello\n\n2\n00:00:00,300 --> 00:00:00,400\nthere\n"
_FACTS = """;FFMETADATA1
title=Holiday
artist=Ann
comment=the only copy
[CHAPTER]
TIMEBASE=1/1000
START=0
END=200
title=one
[CHAPTER]
TIMEBASE=1/1000
START=200
END=480
title=two
"""
_HDR = (
    "master-display=G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,1)"
    ":max-cll=1000,400"
)
_X265 = "log-level=none:lossless=0"


@dataclass(frozen=True)
class Row:
    """A format: a clip, in the words of ffmpeg's command line."""

    name: str
    file: str
    """Its extension names the container."""
    options: str
    """How the picture is filtered, encoded and tagged."""
    sound: str = ""
    """An encoder for the sound; none if empty."""
    subtitles: str = ""
    """The format of subtitles; none if empty."""
    facts: bool = False
    """With title, artist, comment and chapters."""
    attachment: bool = False
    rotated: int = 0
    """Degrees, clockwise."""


# fmt: off
_TAGS_709 = "-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv"
_TAGS_2020 = "-colorspace bt2020nc -color_primaries bt2020 -color_range tv -color_trc"
ROWS = (
    Row("MP4, H.264, a phone's: rotated by 90°", "mp4",
        f"-c:v libx264 {_TAGS_709}", "aac", "mov_text", facts=True, rotated=90),
    Row("MP4, H.264, variable frame rate, sound from 0.1 s on", "mp4",
        "-c:v libx264 -vf setpts='N*3003+gt(mod(N,3),0)*1501',settb=1/90000 -fps_mode passthrough"
        " -enc_time_base 1/90000 -video_track_timescale 90000", "late aac"),
    Row("MP4, H.264, 23.976 frames/s, edit list", "mp4",
        "-c:v libx264 -r 24000/1001 -bf 2", "aac", facts=True),
    Row("MP4, H.264, 10 bit 4:2:0", "mp4", "-c:v libx264 -pix_fmt yuv420p10le"),
    Row("MOV, H.264, full range, BT.601", "mov",
        "-c:v libx264 -pix_fmt yuvj420p -colorspace smpte170m -color_primaries smpte170m"
        " -color_trc smpte170m", "pcm_s16le", facts=True),
    Row("MOV, H.264, 10 bit 4:2:2, interlaced, time code", "mov",
        "-c:v libx264 -pix_fmt yuv422p10le -vf setfield=tff -flags +ilme+ildct -x264opts tff=1"
        " -field_order tt -timecode 01:00:00:00", "pcm_s24le"),
    Row("MKV, H.264, 4:4:4, subtitles, attachment, chapters", "mkv",
        f"-c:v libx264 -pix_fmt yuv444p {_TAGS_709}", "aac", "ass", facts=True, attachment=True),
    Row("MKV, H.264, gray", "mkv", "-c:v libx264 -pix_fmt gray", "flac"),
    Row("MPEG-TS, H.264, interlaced", "ts",
        "-c:v libx264 -vf setfield=tff -flags +ilme+ildct -x264opts tff=1 -field_order tt", "aac"),
    Row("MPEG-TS, H.264, clock from 10 hours on", "ts",
        "-c:v libx264 -output_ts_offset 36000", "ac3"),
    Row("FLV, H.264", "flv", "-c:v libx264", "aac"),
    Row("AVI, H.264, no B-frames", "avi", "-c:v libx264 -bf 0", "libmp3lame"),
    Row("MP4, HEVC, 10 bit, HDR10 (PQ), mastering display and light levels", "mp4",
        f"-c:v libx265 -pix_fmt yuv420p10le -x265-params {_X265}:{_HDR} {_TAGS_2020} smpte2084"
        " -tag:v hvc1", "aac", facts=True),
    Row("MKV, HEVC, 10 bit, HDR10 (PQ)", "mkv",
        f"-c:v libx265 -pix_fmt yuv420p10le -x265-params {_X265}:{_HDR} {_TAGS_2020} smpte2084",
        "ac3"),
    Row("MP4, HEVC, 10 bit, HLG", "mp4",
        f"-c:v libx265 -pix_fmt yuv420p10le -x265-params {_X265} {_TAGS_2020} arib-std-b67"
        " -tag:v hvc1", "aac"),
    Row("MP4, HEVC, 12 bit 4:2:2", "mp4",
        f"-c:v libx265 -pix_fmt yuv422p12le -x265-params {_X265}"),
    Row("MP4, AV1, 8 bit", "mp4", f"-c:v libsvtav1 -preset 10 {_TAGS_709}", "aac"),
    Row("MKV, AV1, 10 bit, BT.2020 PQ", "mkv",
        f"-c:v libsvtav1 -preset 10 -pix_fmt yuv420p10le {_TAGS_2020} smpte2084", "libopus"),
    Row("WebM, VP9, subtitles", "webm", "-c:v libvpx-vp9 -cpu-used 8", "libopus", "webvtt",
        facts=True),
    Row("WebM, VP9, 10 bit HLG", "webm",
        f"-c:v libvpx-vp9 -cpu-used 8 -pix_fmt yuv420p10le {_TAGS_2020} arib-std-b67", "libopus"),
    Row("WebM, VP9, transparency", "webm",
        "-c:v libvpx-vp9 -cpu-used 8 -vf format=yuva420p,geq=lum='p(X,Y)':a=128"),
    Row("WebM, VP8", "webm", "-c:v libvpx -colorspace bt470bg", "libvorbis"),
    Row("MOV, ProRes 422 HQ", "mov",
        f"-c:v prores_ks -profile:v 3 -pix_fmt yuv422p10le {_TAGS_709}", "pcm_s16le", facts=True),
    Row("MOV, ProRes 4444, transparency", "mov",
        "-c:v prores_ks -profile:v 4 -vf format=yuva444p10le,geq=lum='p(X,Y)':a=300", "pcm_s16le"),
    Row("MKV, FFV1, 8 bit, odd size", "mkv", "-c:v ffv1 -level 3 -vf scale=161:121", "flac"),
    Row("MKV, FFV1, 12 bit 4:4:4", "mkv", "-c:v ffv1 -level 3 -pix_fmt yuv444p12le"),
    Row("MKV, FFV1, 16 bit gray", "mkv", "-c:v ffv1 -level 3 -pix_fmt gray16le"),
    Row("MKV, FFV1, RGB", "mkv", "-c:v ffv1 -level 3 -pix_fmt bgr0"),
    Row("MKV, FFV1, transparency", "mkv",
        "-c:v ffv1 -level 3 -vf format=yuva420p,geq=lum='p(X,Y)':a=128"),
    Row("MPEG-PS, MPEG-2, anamorphic, interlaced", "mpg",
        "-c:v mpeg2video -q:v 2 -vf setfield=tff,setsar=64/45 -flags +ilme+ildct", "mp2"),
    Row("MKV, H.264, anamorphic", "mkv", "-c:v libx264 -vf setsar=64/45", "aac"),
    Row("MKV, FFV1, anamorphic", "mkv", "-c:v ffv1 -level 3 -vf setsar=64/45"),
    Row("AVI, MPEG-4", "avi", "-c:v mpeg4 -q:v 2", "libmp3lame"),
    Row("AVI, Motion JPEG", "avi", "-c:v mjpeg -q:v 2 -pix_fmt yuvj422p", "pcm_s16le"),
    Row("AVI, Huffyuv, RGB", "avi", "-c:v huffyuv -pix_fmt rgb24"),
    Row("AVI, raw YUV", "avi", "-c:v rawvideo -pix_fmt yuv420p", "pcm_s16le"),
    Row("MOV, Animation (RLE), transparency", "mov",
        "-c:v qtrle -vf format=argb,geq=r='r(X,Y)':g='g(X,Y)':b='b(X,Y)':a=128"),
    Row("MOV, DNxHR HQ", "mov",
        "-c:v dnxhd -profile:v dnxhr_hq -pix_fmt yuv422p -vf scale=320:240", "pcm_s16le"),
    Row("ASF, WMV 2", "wmv", "-c:v wmv2 -q:v 2", "wmav2"),
    Row("3GP, H.263", "3gp", "-c:v h263 -q:v 2 -vf scale=176:144"),
    Row("YUV4MPEG", "y4m", ""),
)
# fmt: on


def make(row: Row, path: Path) -> None:
    """Write the clip of a row, 160x120 unless it says otherwise."""
    folder = path.parent
    (folder / "facts.txt").write_text(_FACTS)
    (folder / "lines.srt").write_text(_SUBTITLES)
    options = row.options.split()
    scale = "scale=160:120:flags=bicubic"
    if "-vf" in options:
        place = options.index("-vf") + 1
        options[place] = (
            options[place].strip("'")
            if "scale" in options[place]
            else (f"{scale},{options[place]}")
        )
    else:
        options += ["-vf", scale]
    options = [part.replace("'", "") if not part.startswith("scale") else part for part in options]
    inputs = ["-t", str(_SECONDS), "-i", str(SAMPLE)]
    maps = ["-map", "0:v:0"]
    extra: list[str] = []
    if row.sound:
        late, encoder = row.sound.startswith("late "), row.sound.removeprefix("late ")
        inputs += ["-itsoffset", "0.1"] * late + ["-f", "lavfi", "-i", "sine=440:r=48000:d=0.45"]
        maps += ["-map", "1:a"]
        extra += ["-c:a", encoder, "-metadata:s:a", "language=fre", "-strict", "-2"]
    if row.subtitles:
        inputs += ["-i", str(folder / "lines.srt")]
        maps += ["-map", f"{1 + bool(row.sound)}:s"]
        extra += ["-c:s", row.subtitles, "-metadata:s:s", "language=eng"]
    if row.facts:
        number = str(inputs.count("-i"))
        inputs += ["-i", str(folder / "facts.txt")]
        extra += ["-map_metadata", number, "-map_chapters", number]
    else:
        extra += ["-map_metadata", "-1", "-map_chapters", "-1"]
    if row.attachment:
        (folder / "notes.txt").write_text("hello")
        extra += ["-attach", str(folder / "notes.txt"), "-metadata:s:t", "mimetype=text/plain"]
    said("ffmpeg", "-v", "error", "-y", *inputs, *maps, *extra, *options, str(path))
    if row.rotated:
        upright = path.rename(path.with_stem("upright"))
        turn = ["-map", "0", "-c", "copy", "-metadata:s:v", f"rotate={row.rotated}"]
        said("ffmpeg", "-v", "error", "-i", str(upright), *turn, str(path))


def said(*command: str) -> str:
    """What a program prints; RuntimeError if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout
