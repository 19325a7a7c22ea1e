"""Deblur a video file from Python, as `streamdeblur INPUT -o OUTPUT` does.

python samples/deblur_file.py samples/pavilion.mp4 pavilion.deblurred.mp4
"""

import argparse
from fractions import Fraction

from streamdeblur import Deblurrer, FileSink, FileSource, StreamDeblurError, run

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("input")
parser.add_argument("output", help="must not exist yet")
parser.add_argument("--model", default="fast", help="name of a bundled model, or an ONNX file")
parser.add_argument("--duration", type=Fraction, help="seconds to read (default: all)")
options = parser.parse_args()

try:
    deblurrer = Deblurrer.load(options.model)
    with (
        FileSource(options.input, duration=options.duration) as source,
        FileSink(options.output, source.info, copy_from=source) as sink,
    ):
        # Decoding, deblurring and encoding overlap; sound and timestamps are copied.
        done = run(source, deblurrer, sink)
except StreamDeblurError as error:  # one line that says what failed and what to do
    raise SystemExit(f"error: {error}") from None
print(f"{options.output}: {done.written} frames, {done.rate:.1f} a second ({deblurrer.provider})")
