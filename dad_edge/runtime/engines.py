"""Engines of a bundle: what is there, whether it fits this machine, and opening it."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from dad_edge.bundle import CALIBRATION, DENOISER, ENGINES, SEGMENTER, Bundle
from dad_edge.config import ModelConfig, Precision, RuntimeName
from dad_edge.errors import DeviceError, ModelError
from dad_edge.files import sha256_of
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine, openvino_version
from dad_edge.runtime.gpu.tensorrt_api import MODULES, load_tensorrt
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import (
    KERNEL_FOLDER,
    Sidecar,
    build_command,
    list_engines,
    plan_differences,
    read_sidecar,
    rebuild_command,
    this_platform,
)

CPU_RUNTIMES: dict[RuntimeName, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Runtimes whose engines are typed ONNX graphs, and their names for people."""


_GPU_PREFERENCE: tuple[Precision, ...] = ("fp16", "int8", "fp32")
"""Which engine runs on a GPU where none is named and the accuracy gate says the same of all."""


def why_not_here(sidecar: Sidecar) -> str | None:
    """Why an engine cannot run on this machine with this version, or None if it can."""
    if sidecar.runtime in CPU_RUNTIMES:
        if importlib.util.find_spec(sidecar.runtime) is None:
            return f"package '{sidecar.runtime}' is not installed"
        return None
    for module in ("cuda", "cuda.bindings", MODULES[sidecar.runtime]):
        if importlib.util.find_spec(module) is None:
            return f"package '{module}' is not installed"
    found = describe_nvidia()
    if not found["gpus"]:
        return str(found["reason"])
    differences = plan_differences(
        sidecar,
        version=str(load_tensorrt(sidecar.runtime).__version__),
        capability=found["gpus"][0]["compute_capability"],
        platform=this_platform(),
    )
    return "; ".join(differences) or None


def find_gpu_engine(bundle: Bundle) -> str | None:
    """The engine that runs on the GPU of this machine where none is named, if there is one.

    One that the accuracy gate accepted goes before one that it has not judged; one that it
    rejected is not taken. Where all that are left do not fit the bundle any more, one of them is
    named, so that opening it says so: a line that had a GPU does not fall back to the CPU unsaid.
    """
    found = []
    for name, sidecar in _readable(bundle):
        rejected = sidecar.gate.passed is False
        if sidecar.runtime in CPU_RUNTIMES or rejected or why_not_here(sidecar) is not None:
            continue
        place = _GPU_PREFERENCE.index(sidecar.precision)
        differs = bool(_differences(bundle, name, sidecar))
        found.append((differs, not sidecar.gate.passed, place, name))
    return min(found)[-1] if found else None


def _readable(bundle: Bundle) -> Iterator[tuple[str, Sidecar]]:
    """The engines of a bundle but those of another version of this program or with damage."""
    for name in list_engines(bundle):
        try:
            sidecar = read_sidecar(bundle, name)
        except ModelError:
            continue
        yield name, sidecar


def find_cpu_engine(bundle: Bundle) -> str | None:
    """An engine that is faster on the CPU than the FP32 graphs and that the accuracy gate accepted.

    That is INT8 on OpenVINO. ONNX Runtime computes INT8 slower than FP32 and FP16 in FP32.
    """
    for name, sidecar in _readable(bundle):
        kind = sidecar.runtime, sidecar.precision
        if kind != ("openvino", "int8") or not sidecar.gate.passed or why_not_here(sidecar):
            continue
        try:
            return check_engine(bundle, name).name
        except ModelError:  # built from other graphs or for another version
            continue
    return None


def find_engine(bundle: Bundle) -> str | None:
    """The engine that runs here where none is named; None for the FP32 graphs on the CPU."""
    return find_gpu_engine(bundle) or find_cpu_engine(bundle)


def cpu_runtime_version(runtime: RuntimeName) -> str:
    """Version of a CPU runtime that is installed."""
    if runtime == "openvino":
        return openvino_version()
    return str(importlib.import_module(runtime).__version__)


def rows_of(model: ModelConfig, graph: str) -> int:
    """Rows that one frame is in the input of a graph."""
    guided = graph == SEGMENTER and model.fusion == "norm_guided"
    down, across = model.framing.tiles
    return down * across * (1 if guided else len(model.lambdas))


def open_graph(
    runtime: RuntimeName,
    path: Path,
    model: ModelConfig,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Engine:
    """One network on a CPU runtime, ready for one frame at a time.

    Args:
        runtime: one of `CPU_RUNTIMES`.
        path: an ONNX graph whose file name begins as the bundle's does.
        model: the bundle's model settings.
        precision: precision of the graph.
        threads: threads that compute; all usable cores if None.
    """
    if runtime == "openvino":
        return OpenvinoEngine(path, precision, threads, rows_of(model, path.name))
    return OnnxEngine(path, precision, threads)


def check_engine(bundle: Bundle, name: str) -> Sidecar:
    """The sidecar of an engine that fits this bundle and this machine.

    Raises:
        DeviceError: this machine cannot run engines of its kind.
        ModelError: it was made from other graphs or ranges, for another runtime version, or its
            files were changed.
    """
    sidecar = read_sidecar(bundle, name)
    if reason := why_not_here(sidecar):
        raise DeviceError(
            f"engine '{name}' cannot run here: {reason}.",
            f"build one for this machine: {build_command('onnxruntime', sidecar.precision)}, or on "
            f"its GPU: {build_command('tensorrt', sidecar.precision)}",
        )
    differences = _differences(bundle, name, sidecar)
    if differences:
        raise ModelError(
            f"engine '{name}' does not fit: {'; '.join(differences)}.",
            f"rebuild it with '{rebuild_command(sidecar)}'",
        )
    return sidecar


def _differences(bundle: Bundle, name: str, sidecar: Sidecar) -> list[str]:
    found = []
    if sidecar.runtime in CPU_RUNTIMES:
        version = cpu_runtime_version(sidecar.runtime)
        if sidecar.runtime_version != version:
            runtime = CPU_RUNTIMES[sidecar.runtime]
            found.append(f"built with {runtime} {sidecar.runtime_version}, here is {version}")
    if sidecar.name != name:
        found.append(f"its folder is named '{name}', its sidecar says '{sidecar.name}'")
    for graph, digest in bundle.onnx_digests.items():
        if sidecar.onnx_sha256.get(graph) != digest:
            found.append(f"built from another {graph}")
    ranges = bundle.manifest.sha256.get(CALIBRATION)
    if sidecar.precision == "int8" and sidecar.calibration_sha256 != ranges:
        found.append(f"built from another {CALIBRATION}")
    if sidecar.can_saturate:
        found.append("its weights are too large for CPUs without VNNI instructions")
    folder = bundle.path / ENGINES / name
    for graph in (DENOISER, SEGMENTER):
        file = sidecar.files.get(graph)
        path = folder / (file.name if file else graph)
        if file is None or not path.is_file() or sha256_of(path) != file.sha256:
            found.append(f"{path.name} is missing or was changed")
    for kernel, digest in sidecar.kernels.items():
        path = folder / KERNEL_FOLDER / Path(kernel).name
        if not path.is_file() or sha256_of(path) != digest:
            found.append(f"{path.name} is missing or was changed")
    return found


def accepted_engine(bundle: Bundle, name: str, *, even_if_rejected: bool = False) -> Sidecar:
    """The sidecar of an engine that fits and that the accuracy gate did not reject.

    Args:
        bundle: a checked bundle.
        name: folder name of the engine.
        even_if_rejected: take an engine that the gate rejected too, to judge it again.

    Raises:
        DeviceError, ModelError: see `check_engine`; or the gate rejected it.
    """
    sidecar = check_engine(bundle, name)
    if sidecar.gate.passed is False and not even_if_rejected:
        raise ModelError(
            f"engine '{name}' was rejected by the accuracy gate: {sidecar.gate.reason}.",
            "build another precision, or judge it on your images with "
            f"'dad-edge verify --engine {name} --data FOLDER'",
        )
    return sidecar


def load_engine(
    bundle: Bundle, sidecar: Sidecar, *, threads: int | None = None
) -> tuple[Engine, Engine]:
    """Denoiser and segmenter of an engine on a CPU runtime.

    Args:
        bundle: a checked bundle.
        sidecar: of an engine that fits.
        threads: threads that compute; all usable cores if None.
    """
    folder = bundle.path / ENGINES / sidecar.name
    denoiser, segmenter = (
        open_graph(
            sidecar.runtime,
            folder / sidecar.files[graph].name,
            bundle.model,
            precision=sidecar.precision,
            threads=threads,
        )
        for graph in (DENOISER, SEGMENTER)
    )
    return denoiser, segmenter
