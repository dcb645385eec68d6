"""Engines of a bundle: what is there, whether it fits this machine, and opening it."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from dad_edge.bundle import CALIBRATION, DENOISER, ENGINES, SEGMENTER, Bundle, sha256_of
from dad_edge.config import ModelConfig, Precision, RuntimeName
from dad_edge.errors import DeviceError, ModelError
from dad_edge.runtime.engine_onnx import OnnxEngine
from dad_edge.runtime.engine_openvino import OpenvinoEngine, openvino_version
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import Sidecar, build_command, read_sidecar, rebuild_command

CPU_RUNTIMES: dict[RuntimeName, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Runtimes whose engines are typed ONNX graphs, and their names for people."""


def why_not_here(sidecar: Sidecar) -> str | None:
    """Why an engine cannot run on this machine with this version, or None if it can."""
    if sidecar.runtime not in CPU_RUNTIMES:
        return f"{sidecar.runtime} engines are built by this version, not yet run by it"
    if importlib.util.find_spec(sidecar.runtime) is None:
        return f"package '{sidecar.runtime}' is not installed"
    return None


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
            f"build one for this machine: {build_command('onnxruntime', sidecar.precision)}",
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
    for graph in (DENOISER, SEGMENTER):
        file = sidecar.files.get(graph)
        path = bundle.path / ENGINES / name / (file.name if file else graph)
        if file is None or not path.is_file() or sha256_of(path) != file.sha256:
            found.append(f"{path.name} is missing or was changed")
    return found


def load_engine(
    bundle: Bundle, name: str, *, threads: int | None = None, even_if_rejected: bool = False
) -> tuple[Engine, Engine]:
    """Denoiser and segmenter of an engine.

    Args:
        bundle: a checked bundle.
        name: folder name of the engine.
        threads: threads that compute; all usable cores if None.
        even_if_rejected: open an engine that the accuracy gate rejected, to judge it again.

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
    folder = bundle.path / ENGINES / name
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
