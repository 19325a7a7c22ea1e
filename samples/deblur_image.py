"""Deblur one picture.

python samples/deblur_image.py samples/gallery.jpg gallery.deblurred.png
"""

import argparse

import cv2
import numpy as np

from streamdeblur import Deblurrer

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("input")
parser.add_argument("output")
parser.add_argument("--model", default="fast", help="name of a bundled model, or an ONNX file")
options = parser.parse_args()

picture = cv2.imread(options.input)
if picture is None:
    raise SystemExit(f"error: {options.input} is no picture that OpenCV can read")
images = np.ascontiguousarray(picture[np.newaxis, ..., ::-1], np.uint8)  # OpenCV speaks BGR
[sharp] = Deblurrer.load(options.model)(images)  # a batch of one in, a batch of one out
if not cv2.imwrite(options.output, sharp[..., ::-1]):
    raise SystemExit(f"error: can't write {options.output}")
