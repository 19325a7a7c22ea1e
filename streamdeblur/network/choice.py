"""Which device and precision a network is to run in: what was asked for, or what is best here."""

from __future__ import annotations

from streamdeblur.errors import ModelError
from streamdeblur.network import devices, speeds
from streamdeblur.network.catalogue import ModelFiles
from streamdeblur.network.devices import OPENVINO, Device
from streamdeblur.network.session import Setting


def settings_for(
    files: ModelFiles,
    *,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    gpu: int = 0,
) -> list[Setting]:
    """What to try, best first. What was asked for is tried alone: there is no silent fall-back.

    Raises:
        ModelError: it cannot be had; says what is missing.
    """
    if precision not in ("auto", *devices.PRECISIONS):
        names = ", ".join(devices.PRECISIONS)
        raise ModelError(f"no precision {precision!r}: take auto or one of {names}")
    if device != "auto":
        found = devices.find(device)
        if complaint := devices.why_missing(found):
            raise ModelError(complaint)
        return [Setting(found, precision_on(found, precision, files), threads, gpu)]
    if precision == "auto" and files.own != "fp32":
        precision = files.own  # that file was chosen for it
    measured = [
        Setting(devices.find(name), arithmetic, threads, gpu)
        for name, arithmetic in speeds.recalled(files, gpu)
        if (files.accepts(arithmetic) if precision == "auto" else arithmetic == precision)
    ]
    return measured or _unmeasured(files, precision, threads, gpu)


def precision_on(device: Device, wish: str, files: ModelFiles) -> str:
    """The precision to compute in on a device.

    Left open, it is the first one of the device's that the network accepted when it was exported;
    a file that is itself in a lower precision was chosen for it.

    Raises:
        ModelError: the device does not compute in it, or there is no file for it.
    """
    offered = devices.offered(device)
    if wish == "auto" and files.own == "fp32":
        return next((name for name in offered if files.accepts(name)), "fp32")
    precision = files.own if wish == "auto" else wish
    if precision not in offered:
        raise ModelError(
            f"{device.name} does not compute in {precision} here, but in {', '.join(offered)}"
        )
    if files.path(precision) is None:
        raise ModelError(files.complaint(precision))
    return precision


def _unmeasured(files: ModelFiles, wish: str, threads: int | None, gpu: int) -> list[Setting]:
    found = []
    complaints = []
    for device in devices.candidates():
        try:
            precision = precision_on(device, wish, files)
            # In fp32 and int8 ONNX Runtime's own is as fast: not worth a second library.
            if device.provider != OPENVINO or precision == "bf16":
                found.append(Setting(device, precision, threads, gpu))
        except ModelError as error:
            complaints.append(str(error))
    if not found:
        raise ModelError("; ".join(dict.fromkeys(complaints)) + _who_has(wish))
    return found


def _who_has(precision: str) -> str:
    """Which device that is not here would compute in a precision, and how to have it."""
    if precision != "bf16":
        return ""
    openvino = devices.find("openvino")
    would_help = openvino.install in (devices.why_missing(openvino) or "")
    return f"; openvino does: {openvino.install}" if would_help else ""
