"""Proves and measures every part of the road over a GPU, in one run of a few minutes.

What ran is asked of ONNX Runtime, what came out is compared, and each time stands beside the one
that it is to beat, taken in turns. The floor is what the layers' multiply-adds and bytes would
take at the speed of this device's own matrix product and copy, measured in the same run. On a
machine without a GPU it does what it can on the processor, and says what it could not.

    python -m bench.gpu_check --json gpu.json
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from bench import graphs, harness
from bench.ceiling import work_of
from streamdeblur.deblurrer import Deblurrer
from streamdeblur.errors import ModelError
from streamdeblur.network import catalogue, devices, engines, nvidia, session
from streamdeblur.network.binding import BoundSession, pinned
from streamdeblur.network.devices import CPU, CUDA
from streamdeblur.network.session import Setting, open_session
from streamdeblur.spec import ModelSpec
from train.architecture import GeneratorConfig
from train.generator import build

Check = dict[str, Any]
_SPEEDS = {
    "model": "", "precision": "", "size": "", **harness.TIME, "frames/s": ".1f", "floor": ".2f",
    "of it": ".2f", "GPU MB": ".0f",
}  # fmt: skip


def main(argv: list[str] | None = None) -> None:
    """Run all checks and print what holds, line by line, and a table of how fast it is."""
    parser = harness.parser("bench.gpu_check", __doc__, rounds=20)
    parser.add_argument("--models", nargs="+", default=catalogue.bundled_names(), metavar="NAME")
    sizes = [(1280, 720), (1920, 1080)]
    parser.add_argument("--sizes", nargs="+", type=harness.size, default=sizes, metavar="WxH")
    parser.add_argument("--device", default="auto", help="cuda, or another; default: cuda if here")
    parser.add_argument("--gpu", type=int, default=0, metavar="N")
    parser.add_argument("--side", type=int, default=4096, help="of the matrices of the ceiling")
    args = parser.parse_args(argv)

    facts = harness.say_machine()
    name = args.device
    if name == "auto":
        name = "cuda" if nvidia.has_driver() else "cpu"
    if name != "cuda":
        print(f"not on CUDA but on {name}: nothing below says anything of a GPU")
    setting = Setting(devices.find(name), "fp32", gpu=args.gpu)
    rows: list[Check] = []
    for model in args.models:
        for check in _checks(model, setting, args.sizes[0], args.rounds):
            rows.append({"model": model, **check})
    rows += list(_rescue(setting))
    for row in rows:
        print(f"{row['model']:<8} {row['check']:<26} {row['result']:<8} {row['figures']}")
    ceiling = {
        each: _ceiling(replace(setting, precision=each), args.side) for each in graphs.ARITHMETIC
    }
    speeds = [
        row
        for model in args.models
        for row in _speeds(model, setting, args.sizes, args.rounds, ceiling)
    ]
    harness.show("how fast", _SPEEDS, speeds)
    for precision, (operations, copied) in ceiling.items():
        print(f"ceiling in {precision}: {operations / 1e12:.2f} TFLOP/s, {copied / 1e9:.0f} GB/s")
    harness.write(args.json, facts, checks=rows, speeds=speeds, ceiling=ceiling)


def _checks(model: str, setting: Setting, size: tuple[int, int], rounds: int) -> Iterator[Check]:
    files = catalogue.find(model)
    picture = noise(*size)
    wished = setting.device.provider
    plain = _attempt("provider", lambda: _load(files.given, setting))
    if isinstance(plain, dict):
        yield plain
        return
    yield _said("provider", plain.provider == wished, f"{plain.provider}, {plain.precision}")
    path = files.path("fp32")
    assert path is not None
    opened = open_session(path, setting, captures=False)
    memory, gpu = setting.device.memory, setting.gpu
    bound, tensor = BoundSession(opened, memory, gpu), picture[np.newaxis]
    feed = {opened.get_inputs()[0].name: tensor}
    cases = {"run()": lambda: opened.run(None, feed)[0], "bound": lambda: bound(tensor)[0]}
    yield _compared("binding equals run()", cases, rounds)
    if memory == "cuda":
        has = pinned((1,), np.uint8, CUDA, gpu) is not None
        yield _said("pinned memory", None, "offered" if has else "not offered by this ONNX Runtime")
        graph = BoundSession(open_session(path, setting), memory, gpu)
        cases = {"plain": lambda: bound(tensor)[0], "graph": lambda: graph(tensor)[0]}
        yield _compared("CUDA graph equals plain", cases, rounds, is_on=graph.captures)
        yield from _options(files, setting, tensor, rounds)
    else:
        yield _not("pinned memory, CUDA graph, cuDNN search, channels last", "needs CUDA")
    yield from _precisions(files, setting, picture, rounds)
    yield _batches(plain, picture, rounds)
    yield from _tensorrt(files, setting, tensor, bound, rounds)


def _options(
    files: catalogue.ModelFiles, setting: Setting, tensor: NDArray[Any], rounds: int
) -> Iterator[Check]:
    """What CUDA is told, against the alternatives: time, and memory that they take."""
    for precision in ("fp32", "fp16"):
        path = files.path(precision)
        if path is None:
            continue
        cases: dict[str, Callable[[], object]] = {}
        taken: list[str] = []
        for search in ("EXHAUSTIVE", "HEURISTIC"):
            for last in ("0", "1"):
                name = f"{search.lower()}, {'channels last' if last == '1' else 'channels first'}"
                options = session.cuda_options(precision, 1 << 40, setting.gpu) | {
                    "cudnn_conv_algo_search": search,
                    "cudnn_conv_use_max_workspace": "1" if search == "EXHAUSTIVE" else "0",
                    "prefer_nhwc": last,
                }
                before = _free(setting.gpu)
                opened = ort.InferenceSession(path, providers=[(CUDA, options)])
                run = BoundSession(opened, "cuda", setting.gpu)
                for _ in range(3):
                    run(tensor)
                taken.append(f"{name} {(before - _free(setting.gpu)) / 1e6:.0f} MB")
                cases[name] = lambda run=run: run(tensor)
        times = harness.take_turns(cases, rounds)
        best = min(times, key=lambda name: median(times[name]))
        spent = ", ".join(f"{name} {1e3 * median(each):.2f} ms" for name, each in times.items())
        yield _said(f"options in {precision}", None, f"best {best}; {spent}; {', '.join(taken)}")


def _precisions(
    files: catalogue.ModelFiles, setting: Setting, picture: NDArray[np.uint8], rounds: int
) -> Iterator[Check]:
    """Every precision that the device has: how near, and how fast, against fp32."""
    exact = _load(files.given, setting)
    for precision in devices.offered(setting.device):
        if precision == "fp32":
            continue
        check = f"{precision} against fp32"
        lower = _attempt(check, lambda each=precision: _load(  # type: ignore[misc]
            files.given, replace(setting, precision=each)))  # fmt: skip
        if isinstance(lower, dict):
            yield lower
            continue
        cases = {"fp32": lambda: exact(picture), precision: lambda run=lower: run(picture)}
        yield _compared(check, cases, rounds, allowed=255)


def _batches(network: Deblurrer, picture: NDArray[np.uint8], rounds: int) -> Check:
    """Whether four pictures at once are quicker than one by one."""
    four = np.stack([picture] * 4)
    cases = {"1": lambda: network(picture), "4": lambda: network(four)}
    times = harness.take_turns(cases, max(3, rounds // 4))
    return _said("batch of 4", None, f"{harness.ratio(times, '4', '1') / 4:.2f} of the time each")


def _tensorrt(
    files: catalogue.ModelFiles,
    setting: Setting,
    tensor: NDArray[Any],
    bound: BoundSession,
    rounds: int,
) -> Iterator[Check]:
    """An engine built or found, opened again, and compared with CUDA."""
    wished = replace(setting, device=devices.find("tensorrt"))
    path = files.path("fp32")
    assert path is not None
    try:
        version = engines.load_tensorrt()
        folder = engines.engine_folder(path, tensor.shape, wished, version)
        was_built = engines.is_built(folder)
        began = time.perf_counter()
        engines.build(path, tensor.shape, wished)
        building = time.perf_counter() - began
        began = time.perf_counter()
        engine = engines.open_engine(path, tensor.shape, wished, folder)
        engine(tensor)
    except ModelError as error:
        yield _not("TensorRT", str(error))
        return
    opening = time.perf_counter() - began
    how = "found" if was_built else f"built in {building:.1f} s"
    yield _said("TensorRT engine", None, f"{version}, {how}, opened in {opening:.1f} s")
    cases = {"CUDA": lambda: bound(tensor)[0], "TensorRT": lambda: engine(tensor)[0]}
    yield _compared("TensorRT against CUDA", cases, rounds)


def _rescue(setting: Setting) -> Iterator[Check]:
    """A network that overflows in fp16 on bright pictures, and its twin in fp32."""
    if setting.device.provider == CPU:
        why = "ONNX Runtime's processor computes fp16 networks in fp32"
        yield {"model": "-", **_not("overflow in fp16", why)}
        return
    with tempfile.TemporaryDirectory() as folder:
        half = Path(folder) / "net.fp16.onnx"
        half.write_bytes(graphs.thousandfold("fp16"))
        (Path(folder) / "net.onnx").write_bytes(graphs.thousandfold("fp32"))
        loaded = _attempt(
            "overflow in fp16", lambda: _load(half, replace(setting, precision="fp16"))
        )
        if isinstance(loaded, dict):
            yield {"model": "-", **loaded}
            return
        pictures = np.stack([np.full((16, 16, 3), level, np.uint8) for level in (1, 200)])
        right = np.array_equal(loaded(pictures), pictures) and loaded.rescued == 1
        text = f"{loaded.rescued} of 2 pictures done again in fp32"
        yield {"model": "-", **_said("overflow in fp16", right, text)}


def _speeds(
    model: str,
    setting: Setting,
    sizes: list[tuple[int, int]],
    rounds: int,
    ceiling: dict[str, tuple[float, float]],
) -> Iterator[harness.Row]:
    files = catalogue.find(model)
    for precision in [each for each in graphs.ARITHMETIC if files.path(each)]:
        before = _free(setting.gpu)
        network = _attempt("", lambda each=precision: _load(  # type: ignore[misc]
            files.given, replace(setting, precision=each)))  # fmt: skip
        if isinstance(network, dict):
            continue
        for width, height in sizes:
            picture = noise(width, height)
            network.warm_up(picture)
            times = harness.take_turns({"": lambda run=network, p=picture: run(p)}, rounds)[""]
            floor = _floor(network.spec, (width, height), precision, ceiling[precision])
            yield {
                "model": model,
                "precision": precision,
                "size": f"{width}x{height}",
                **harness.in_milliseconds(times),
                "frames/s": 1 / median(times),
                "floor": floor and 1e3 * floor,
                "of it": floor and median(times) / floor,
                "GPU MB": (before - _free(setting.gpu)) / 1e6 if before else None,
            }


def _ceiling(setting: Setting, side: int) -> tuple[float, float]:
    """Operations and bytes a second of this device, in a matrix product and in a sum."""
    kind = graphs.ARITHMETIC[setting.precision]
    square = graphs.square(kind, side)
    spent = {}
    for operation in ("MatMul", "Add"):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "ceiling.onnx"
            path.write_bytes(graphs.of_two(operation, kind, side))
            opened = open_session(path, setting, captures=False)
        memory = setting.device.memory
        binding = opened.io_binding()
        for name in "ab":
            value = ort.OrtValue.ortvalue_from_numpy(square, memory, setting.gpu)
            binding.bind_ortvalue_input(name, value)
        binding.bind_output("c", memory, setting.gpu)
        times = harness.take_turns({"": lambda s=opened, b=binding: s.run_with_iobinding(b)}, 10)
        spent[operation] = min(times[""])
    return 2 * side**3 / spent["MatMul"], 3 * square.nbytes / spent["Add"]


def _floor(
    spec: ModelSpec, size: tuple[int, int], precision: str, ceiling: tuple[float, float]
) -> float | None:
    """Seconds that the multiply-adds, or else the bytes of every layer, would take at least."""
    if not spec.generator:
        return None
    width, height = size
    network = build(GeneratorConfig.from_dict(spec.generator))
    operations, moved = work_of(network, height, width)  # bytes of fp32
    return max(operations / ceiling[0], moved / (2 if precision == "fp16" else 1) / ceiling[1])


def _compared(
    check: str,
    cases: dict[str, Callable[[], Any]],
    rounds: int,
    *,
    allowed: int = 1,
    is_on: bool = True,
) -> Check:
    """Two ways to the same answer: how far apart it is, and how long each takes."""
    base, other = cases
    for run in cases.values():
        for _ in range(2):
            run()
    expected, got = (cases[name]().astype(float) for name in cases)
    error = np.abs(expected - got)
    mse = float((error**2).mean())
    psnr = f", {10 * np.log10(255**2 / mse):.1f} dB" if mse else ""
    times = harness.take_turns(cases, rounds)
    took = ", ".join(f"{name} {1e3 * median(each):.2f} ms" for name, each in times.items())
    text = f"{harness.ratio(times, other, base):.2f} of the time ({took}); at most"
    return _said(check, is_on and error.max() <= allowed, f"{text} {error.max():.0f} levels{psnr}")


def _load(path: Path, setting: Setting) -> Deblurrer:
    return Deblurrer.load(
        path,
        device=setting.device.name,
        precision=setting.precision,
        gpu=setting.gpu,
        tile="off",
    )


def _attempt(check: str, call: Callable[[], Deblurrer]) -> Deblurrer | Check:
    try:
        return call()
    except ModelError as error:
        return _not(check, str(error))


def _said(check: str, holds: bool | None, text: str) -> Check:
    result = {True: "yes", False: "NO", None: "-"}[holds if holds is None else bool(holds)]
    return {"check": check, "result": result, "figures": text}


def _not(check: str, why: str) -> Check:
    return {"check": check, "result": "not done", "figures": why}


def _free(gpu: int) -> int:
    found = nvidia.gpu(gpu)
    return found.free if found else 0


def noise(width: int, height: int) -> NDArray[np.uint8]:
    """A picture of that size."""
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


if __name__ == "__main__":
    harness.command(main)
