"""What can run here, why the rest cannot, and whether a frame can be inspected."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dad_edge.doctor.probe import PROBES, ask
from dad_edge.errors import INSTALL_HINT, DadEdgeError, MissingDependency
from dad_edge.machine import windows
from dad_edge.machine.environment import describe_machine
from dad_edge.packages import load, reason_of, repair_of

SCHEMA_VERSION = 1
LEAST_FREE_GIB = 1.0
"""Free disk space below which recordings are likely to fail."""
RTX_COMPUTE_CAPABILITIES = ("7.5", "8.0", "8.6", "8.9", "12.0", "12.1")
"""GPUs that TensorRT-RTX builds for."""

State = Literal["ok", "not here", "problem"]

_CORE = ("numpy", "cv2", "onnx", "onnxruntime")
_EXTRA = {
    "cuda": "cuda",
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "torch": "train",
}
"""Module → the extra that brings it."""


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the diagnosis."""

    group: str
    name: str
    state: State
    """`not here` is a fact, `problem` needs attention."""
    detail: str
    next_step: str = ""


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was found on this machine."""

    checks: list[Check]
    environment: dict[str, Any]
    exit_code: int
    """0 when a frame was inspected, else the code of the error that prevented it."""

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "can_inspect": self.exit_code == 0,
            "exit_code": self.exit_code,
            "checks": [asdict(check) for check in self.checks],
            "environment": self.environment,
        }


def examine(named: Path | None = None, root: Path = Path("/")) -> Diagnosis:
    """Check this machine; nothing is changed.

    Args:
        named: bundle folder of `--bundle`.
        root: where the file system starts.
    """
    environment = describe_machine(root)
    with ThreadPoolExecutor(2) as pool:
        answers = dict(zip(PROBES, pool.map(ask, PROBES), strict=True))
    job, exit_code = _job(named)
    checks = [
        *job,
        *_backends(answers, environment["nvidia"]),
        *_device(environment),
        *_input_and_output(answers["opencv"], root),
    ]
    return Diagnosis(checks, environment, exit_code)


def _job(named: Path | None) -> tuple[list[Check], int]:
    """Inspect one frame with the chosen bundle."""
    group = "main job"
    for module in _CORE:
        if why := _why_not_importable(module):
            detail = f"package '{module}' does not import: {why}"
            broken = Check(group, "packages", "problem", detail, repair_of(module, why))
            return [broken], MissingDependency.exit_code
    checks = [Check(group, "packages", "ok", ", ".join(_CORE) + " import")]

    from dad_edge.bundle import find_bundle, open_bundle
    from dad_edge.data.demo import draw
    from dad_edge.runtime.inspector import choose_engine
    from dad_edge.runtime.opening import open_choice

    doing, chosen = "bundle", ""
    try:
        path, reason = find_bundle(named)
        chosen = f"chosen by {reason}: "
        bundle = open_bundle(path)
        detail = f"{path} ({reason}): {bundle.manifest.class_name}, size {bundle.model.size}"
        checks.append(Check(group, doing, "ok", f"{detail}, verified"))
        if bundle.thresholds is None:
            checks.append(
                Check(
                    group,
                    "thresholds",
                    "problem",
                    "not calibrated: parts are judged against 0.5",
                    f"dad-edge calibrate --bundle {path} --data YOUR_GOOD_PARTS",
                )
            )
        doing = "inspect a frame"
        choice = choose_engine(bundle)
        checks += [
            Check(group, "engine", "problem", text, "dad-edge verify, or build it again here")
            for text in choice.passed_over
        ]
        with open_choice(choice) as inspector:
            inspection = inspector.inspect(draw(0).image)
    except DadEdgeError as error:
        detail = f"{chosen}{error.message}"
        checks.append(Check(group, doing, "problem", detail, error.next_step))
        return checks, error.exit_code
    spent = sum(inspection.stage_ms.values())
    chosen = f"engine {choice.name}" if choice.name else "the FP32 graphs"
    detail = f"{chosen} on {inspector.backend}: first frame in {spent:.0f} ms"
    checks.append(Check(group, doing, "ok", detail))
    return checks, 0


def _why_not_importable(module: str) -> str:
    try:
        load(module)
    except Exception as error:  # a broken package raises anything
        return reason_of(error)
    return ""


def _backends(answers: dict[str, dict[str, Any]], nvidia: dict[str, Any]) -> Iterator[Check]:
    group = "backends"
    no_gpu = nvidia["reason"] or ("" if nvidia["gpus"] else "no GPU")
    yield _onnxruntime(group)

    torch = answers["torch"]
    if (absent := _absent(group, "PyTorch", torch, "torch")) is not None:
        yield absent
    else:
        yield Check(group, "PyTorch CPU", "ok", torch["version"])
        if torch["gpus"]:
            yield Check(group, "PyTorch CUDA", "ok", ", ".join(torch["gpus"]))
        else:
            why = no_gpu or (
                f"PyTorch is built for CUDA {torch['cuda_built']} and sees no GPU"
                if torch["cuda_built"]
                else "this PyTorch is built without CUDA"
            )
            yield Check(group, "PyTorch CUDA", "not here", why)

    openvino = answers["openvino"]
    yield _absent(group, "OpenVINO", openvino, "openvino") or Check(
        group, "OpenVINO", "ok", f"{openvino['version']}: {', '.join(openvino['devices'])}"
    )
    yield _tensorrt(group, answers["tensorrt"], no_gpu)
    yield from _tensorrt_rtx(group, answers["tensorrt_rtx"], nvidia["gpus"], no_gpu)

    cuda = answers["cuda"]
    if (absent := _absent(group, "CUDA kernels", cuda, "cuda")) is not None:
        yield absent
    elif cuda["gpu"] and cuda["why"]:
        yield Check(group, "CUDA kernels", "problem", cuda["why"], cuda["next_step"])
    elif cuda["gpu"]:
        yield Check(group, "CUDA kernels", "ok", f"cuda-core {cuda['version']} on {cuda['gpu']}")
    else:
        able = "; they compile here"
        if not cuda["compiles"]:
            able = f"; they do not compile here: {cuda['compile_error']}"
        yield Check(group, "CUDA kernels", "not here", (no_gpu or str(cuda["why"])) + able)


def _onnxruntime(group: str) -> Check:
    if why := _why_not_importable("onnxruntime"):
        return Check(group, "ONNX Runtime", "problem", why, repair_of("onnxruntime", why))
    ort: Any = importlib.import_module("onnxruntime")
    names = (p.removesuffix("ExecutionProvider") for p in ort.get_available_providers())
    providers = [name for name in names if name != "Azure"]  # it is a web service, not a device
    return Check(group, "ONNX Runtime", "ok", f"{ort.__version__}: {', '.join(providers)}")


def _tensorrt(group: str, found: dict[str, Any], no_gpu: str) -> Check:
    if (absent := _absent(group, "TensorRT", found, "tensorrt")) is not None:
        return absent
    if found["builder"]:
        return Check(group, "TensorRT", "ok", found["version"])
    if no_gpu:
        return Check(group, "TensorRT", "not here", f"{found['version']} is installed; {no_gpu}")
    return Check(
        group,
        "TensorRT",
        "problem",
        f"{found['version']} gives no builder: {found['why']}",
        "install the TensorRT version that this driver supports",
    )


def _tensorrt_rtx(
    group: str, found: dict[str, Any], gpus: list[dict[str, Any]], no_gpu: str
) -> Iterator[Check]:
    name = "TensorRT-RTX"
    if (absent := _absent(group, name, found, "tensorrt_rtx")) is not None:
        yield absent
        return
    if found["builder"]:
        yield Check(group, f"{name} build", "ok", f"{found['version']}, builds without a GPU too")
    else:
        next_step = "pip install --force-reinstall tensorrt-rtx-cu13"
        yield Check(group, f"{name} build", "problem", str(found["why"]), next_step)
    fitting = [gpu["name"] for gpu in gpus if gpu["compute_capability"] in RTX_COMPUTE_CAPABILITIES]
    if fitting:
        yield Check(group, f"{name} run", "ok", ", ".join(fitting))
    else:
        other = [f"{g['name']} has {g['compute_capability']}" for g in gpus]
        listed = ", ".join(RTX_COMPUTE_CAPABILITIES)
        why = no_gpu or f"made for compute capability {listed}; {'; '.join(other)}"
        yield Check(group, f"{name} run", "not here", why)


def _absent(group: str, name: str, found: dict[str, Any], module: str) -> Check | None:
    """The line for a package that is missing or broken; None if the package answered."""
    if "missing" in found:
        detail = f"package '{found['missing']}' is not installed"
        return Check(group, name, "not here", detail, INSTALL_HINT.format(extra=_EXTRA[module]))
    if "error" in found:
        next_step = repair_of(module, found["error"])
        return Check(group, name, "problem", found["error"], next_step)
    return None


def _device(environment: dict[str, Any]) -> Iterator[Check]:
    group = "device"
    cpu, nvidia, jetson = environment["cpu"], environment["nvidia"], environment["jetson"]
    cores = f"{cpu['usable_cores']} of {cpu['cores']} cores"
    yield Check(group, "CPU", "ok", f"{cpu['model']}, {cores}, {environment['memory_gib']} GiB")
    for gpu in nvidia["gpus"]:
        detail = f"{gpu['name']}, compute capability {gpu['compute_capability']}"
        yield Check(group, "GPU", "ok", f"{detail}, {gpu['memory_gib']} GiB")
    version = nvidia["driver_version"]
    if nvidia["gpus"]:
        detail = f"{version or 'version not shown'}, up to CUDA {nvidia['cuda_version']}"
        yield Check(group, "NVIDIA driver", "ok", detail)
    elif version:
        next_step = "in a container, start it with GPU access; else reinstall the driver"
        yield Check(group, "NVIDIA driver", "problem", f"{version}: {nvidia['reason']}", next_step)
    else:
        yield Check(group, "NVIDIA driver", "not here", str(nvidia["reason"]))
    if jetson:
        release = f"JetPack {jetson['jetpack'] or '?'} (L4T {jetson['l4t'] or '?'})"
        yield Check(group, "Jetson", "ok", f"{jetson['model']}, {release}")
        mode = jetson["power_mode"]
        yield Check(
            group,
            "power mode",
            "ok" if mode else "not here",
            mode or "nvpmodel does not tell",
            "" if mode and mode.startswith("MAXN") else "sudo nvpmodel -m 0 for full speed",
        )


def _input_and_output(opencv: dict[str, Any], root: Path) -> Iterator[Check]:
    group = "in and out"
    cameras = sorted((root / "dev").glob("video*"))
    shut = [c.name for c in cameras if not os.access(c, os.R_OK | os.W_OK)]
    if shut:
        detail = f"no permission for {', '.join(shut)}"
        next_step = "sudo usermod -aG video $USER, then log in again"
        yield Check(group, "cameras", "problem", detail, next_step)
    elif cameras:
        yield Check(group, "cameras", "ok", ", ".join(f"/dev/{c.name}" for c in cameras))
    else:
        yield Check(group, "cameras", "not here", "no /dev/video*; files, folders and streams work")

    if "error" in opencv or "missing" in opencv:
        why = opencv.get("error") or f"package '{opencv['missing']}' is not installed"
        yield Check(group, "OpenCV", "problem", why, repair_of("cv2", why))
    else:
        screen = os.environ.get("WAYLAND_DISPLAY") or os.environ.get("DISPLAY")
        if not opencv["window"]:
            why = "this OpenCV is built without windows; --window will not work"
            yield Check(group, "window", "not here", why, windows.INSTALL if screen else "")
        elif screen:
            yield Check(group, "window", "ok", f"{opencv['window']} on display {screen}")
        else:
            yield Check(group, "window", "not here", "no display; --window will not work")
        codecs: list[str] = opencv["codecs"]
        if codecs:
            yield Check(group, "video files", "ok", ", ".join(codecs))
        else:
            yield Check(group, "video files", "problem", "OpenCV writes none", repair_of("cv2"))

    yield _disk(group)


def _disk(group: str) -> Check:
    """Whether results can be written where the command was started."""
    try:
        folder = Path.cwd()
    except FileNotFoundError:
        why = "the current folder does not exist any more"
        return Check(group, "disk", "problem", why, "change to another folder with cd")
    free_gib = shutil.disk_usage(folder).free / 2**30
    detail = f"{free_gib:.1f} GiB free in this folder"
    if not os.access(folder, os.W_OK):
        next_step = "change to a folder you may write to, or name one with --out"
        return Check(group, "disk", "problem", "this folder may not be written", next_step)
    if free_gib < LEAST_FREE_GIB:
        return Check(group, "disk", "problem", detail, "free some space before recording")
    return Check(group, "disk", "ok", detail)
