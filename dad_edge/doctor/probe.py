"""Try one installed package in a process of its own.

A broken native library can end the process that imports it. So `dad-edge doctor` lets a child
process import it, and survives to say what happened.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dad_edge.errors import DadEdgeError
from dad_edge.machine.child import python_command
from dad_edge.machine.windows import window_toolkit
from dad_edge.packages import is_part_of_installed, load, reason_of

_CHILD = "from dad_edge.doctor.probe import main; main()"
_TIMEOUT_S = 60
_MARK = "dad-edge-probe:"


def ask(name: str) -> dict[str, Any]:
    """Run one probe in a child process.

    Returns:
        What the probe found, or `error`: a sentence on why it could not.
    """
    try:
        process = subprocess.run(
            python_command(_CHILD, name),
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired:
        return {"error": f"it did not answer within {_TIMEOUT_S} s"}
    for text in process.stdout.splitlines():
        if text.startswith(_MARK):
            answer: dict[str, Any] = json.loads(text[len(_MARK) :])
            return answer
    if process.returncode < 0:
        return {"error": f"importing it crashed with {signal.Signals(-process.returncode).name}"}
    return {"error": _last_line(process.stderr) or f"exit code {process.returncode}"}


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


def probe_torch() -> dict[str, Any]:
    """PyTorch, and the GPUs that it sees."""
    torch: Any = load("torch")
    usable = bool(torch.cuda.is_available())
    return {
        "version": torch.__version__,
        "cuda_built": torch.version.cuda,
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
        if usable
        else [],
    }


def probe_openvino() -> dict[str, Any]:
    """OpenVINO and its devices."""
    from dad_edge.runtime.cpu.engine_openvino import without_telemetry

    with without_telemetry():
        openvino: Any = load("openvino")
    return {"version": openvino.__version__, "devices": list(openvino.Core().available_devices)}


def probe_tensorrt() -> dict[str, Any]:
    """TensorRT; its builder needs a GPU."""
    return _builder("tensorrt")


def probe_tensorrt_rtx() -> dict[str, Any]:
    """TensorRT-RTX; its builder works without a GPU."""
    return _builder("tensorrt_rtx")


def _builder(module: str) -> dict[str, Any]:
    trt: Any = load(module)
    facts: dict[str, Any] = {"version": trt.__version__, "builder": True, "why": None}
    try:
        trt.Builder(trt.Logger(trt.Logger.INTERNAL_ERROR))
    except Exception as error:  # the bindings raise TypeError where the library gave no builder
        facts |= {"builder": False, "why": _last_line(str(error))}
    return facts


def probe_cuda() -> dict[str, Any]:
    """cuda-core: compile a kernel; where there is a GPU, load this project's and run them on it."""
    core: Any = load("cuda.core")
    facts: dict[str, Any] = {"version": core.__version__, "compiles": True, "compile_error": None}
    facts |= {"gpu": None, "why": None}
    try:
        options = core.ProgramOptions(arch="sm_87", std="c++17")
        core.Program('extern "C" __global__ void k() {}', "c++", options).compile("cubin")
    except Exception as error:  # any of the package's own errors means the same here
        reason = _last_line(str(error)) or type(error).__name__
        facts |= {"compiles": False, "compile_error": reason}
    try:
        facts["gpu"] = core.Device(0).name
    except Exception as error:
        facts["why"] = _last_line(str(error)) or type(error).__name__
        return facts
    from dad_edge.runtime.gpu.trial import try_kernels

    try:
        try_kernels()
    except DadEdgeError as error:
        facts |= {"why": error.message, "next_step": error.next_step}
    return facts


def probe_opencv() -> dict[str, Any]:
    """Window support and the video files that OpenCV can write."""
    cv2: Any = load("cv2")
    import numpy as np

    codecs = []
    with tempfile.TemporaryDirectory() as folder:
        for code, suffix in (("avc1", ".mp4"), ("mp4v", ".mp4"), ("MJPG", ".avi")):
            path = Path(folder) / f"{code}{suffix}"
            writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), 10.0, (64, 64))
            writer.write(np.zeros((64, 64, 3), np.uint8))
            writer.release()
            if path.is_file() and path.stat().st_size:
                codecs.append(f"{code}{suffix}")
    return {
        "version": cv2.__version__,
        "window": window_toolkit(),
        "codecs": codecs,
    }


PROBES: dict[str, Callable[[], dict[str, Any]]] = {
    "torch": probe_torch,
    "openvino": probe_openvino,
    "tensorrt": probe_tensorrt,
    "tensorrt_rtx": probe_tensorrt_rtx,
    "cuda": probe_cuda,
    "opencv": probe_opencv,
}


def main() -> None:
    """Answer on stdout, on a marked line among whatever the package prints."""
    name = sys.argv[1]
    try:
        answer = PROBES[name]()
    except ModuleNotFoundError as error:
        missing = error.name or name
        is_broken = is_part_of_installed(missing)
        answer = {"error": reason_of(error)} if is_broken else {"missing": missing}
    except Exception as error:  # a broken package raises anything
        answer = {"error": reason_of(error)}
    print(_MARK + json.dumps(answer), flush=True)
