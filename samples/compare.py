"""Measure what a model restores: PSNR of a blurred clip against its sharp twin, before and after.

python samples/compare.py samples/pavilion.mp4 samples/pavilion-sharp.mp4
"""

import argparse
from fractions import Fraction

import numpy as np

from streamdeblur import Deblurrer, open_source

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("blurred")
parser.add_argument("sharp")
parser.add_argument("--model", default="fast", help="name of a bundled model, or an ONNX file")
parser.add_argument("--duration", type=Fraction, help="seconds to read (default: all)")
options = parser.parse_args()


def psnr(image: np.ndarray, truth: np.ndarray) -> float:
    """In dB; pictures that differ by less than the rounding of 8 bits count as 59."""
    error = np.mean(np.subtract(image, truth, dtype=np.float32) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1 / 12)))


scores: list[tuple[float, float]] = []
deblurrer = Deblurrer.load(options.model)
with (
    open_source(options.blurred, duration=options.duration) as blurred,
    open_source(options.sharp, duration=options.duration) as sharp,
):
    for frame, twin in zip(blurred, sharp, strict=True):
        [deblurred] = deblurrer(frame.image[np.newaxis])
        scores.append((psnr(frame.image, twin.image), psnr(deblurred, twin.image)))

before, after = np.transpose(scores)
print(f"{len(scores)} frames: blurred {before.mean():.2f} dB, deblurred {after.mean():.2f} dB")
gains = after - before
print(f"gain {gains.mean():+.2f} dB; worst frame {gains.min():+.2f}, best {gains.max():+.2f}")
