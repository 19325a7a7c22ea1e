"""Run a model with nothing but ONNX Runtime: its contract, for programs in other languages.

python samples/plain_onnxruntime.py samples/gallery.mp4 before-after.png
"""

import argparse
from itertools import islice
from pathlib import Path

import av
import numpy as np
import onnxruntime

MODEL = Path(__file__).parent.parent / "streamdeblur" / "models" / "fast.onnx"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("input", help="a video")
parser.add_argument("output", help="a PNG picture: the frame before, and after")
parser.add_argument("--model", default=str(MODEL))
parser.add_argument("--frame", type=int, default=20, help="which frame, from 0")
options = parser.parse_args()

session = onnxruntime.InferenceSession(options.model, providers=["CPUExecutionProvider"])
facts = session.get_modelmeta().custom_metadata_map  # `streamdeblur.*`, each value JSON
print(f"model {facts.get('streamdeblur.name')} on {session.get_providers()[0]}")

with av.open(options.input) as video:
    *_, frame = islice(video.decode(video=0), options.frame + 1)
image = frame.to_ndarray(format="rgb24")

# In and out: uint8 RGB, [batch, height, width, 3], any size. Normalisation, padding, cropping
# and rounding are inside the graph.
[sharp] = session.run(["sharp"], {"frames": image[np.newaxis]})

with av.open(options.output, "w", format="image2", options={"update": "1"}) as png:
    both = av.VideoFrame.from_ndarray(np.concatenate([image, sharp[0]], axis=1), "rgb24")
    stream = png.add_stream("png", width=both.width, height=both.height, pix_fmt="rgb24")
    png.mux(stream.encode(both))
    png.mux(stream.encode())
