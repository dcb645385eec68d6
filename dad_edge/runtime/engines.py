"""Engines of a bundle: what is there, whether it fits this machine, and opening it."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from pathlib import Path

from dad_edge.bundle import (
    CALIBRATION,
    DENOISER,
    ENGINES,
    SEGMENTER,
    Bundle,
    read_json,
    sha256_of,
    write_json,
)
from dad_edge.config import ModelConfig, Precision, RuntimeName, from_mapping, to_mapping
from dad_edge.errors import DeviceError, ModelError
from dad_edge.runtime.engine_onnx import OnnxEngine
from dad_edge.runtime.engine_openvino import OpenvinoEngine, openvino_version
from dad_edge.runtime.seams import Engine

SIDECAR = "engine.json"
SIDECAR_FORMAT = 1
CPU_RUNTIMES: dict[RuntimeName, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Runtimes whose engines are typed ONNX graphs, and their names for people."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFile:
    """One network of an engine on disk."""

    name: str
    """File name inside the engine's folder."""
    sha256: str
    bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What the accuracy gate said about an engine."""

    passed: bool | None = None
    """None while it has not run."""
    reason: str = "the accuracy gate has not run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Sidecar:
    """`engine.json`: everything that must match before an engine is run."""

    format: int
    runtime: RuntimeName
    runtime_version: str
    device: str
    """`cpu`, or the compute capabilities such as `sm86-sm89`."""
    precision: Precision
    onnx_sha256: dict[str, str]
    """Graphs of the bundle that it was built from."""
    calibration_sha256: str | None = None
    """Activation ranges that an INT8 engine was built from."""
    files: dict[str, EngineFile]
    """Graph of the bundle → its engine file."""
    frames: tuple[int, int, int]
    """Smallest, best and largest number of frames in a batch; 0 0 0 where any number will do."""
    build_seconds: float
    peak_memory_mib: float
    """Largest memory of the building process so far."""
    gate: Gate

    @property
    def name(self) -> str:
        """Name of the engine's folder."""
        return f"{self.device}-{self.runtime}-{self.runtime_version}-{self.precision}"


def list_engines(bundle: Bundle) -> list[str]:
    """Names of the engines in a bundle, in order."""
    return sorted(
        path.parent.name
        for path in (bundle.path / ENGINES).glob(f"*/{SIDECAR}")
        if not path.parent.name.startswith(".")
    )


def read_sidecar(bundle: Bundle, name: str) -> Sidecar:
    """What an engine is.

    Raises:
        ModelError: there is no such engine, or its sidecar is damaged.
    """
    path = bundle.path / ENGINES / name / SIDECAR
    if name not in (names := list_engines(bundle)):
        raise ModelError(
            f"{bundle.path} has no engine '{name}'; it has: {', '.join(names) or 'none'}.",
            "name one of these, or make one with 'dad-edge build --precision fp16'",
        )
    mapping = read_json(path)
    if mapping.get("format") != SIDECAR_FORMAT:
        raise ModelError(
            f"{path}: format {mapping.get('format')!r}, this version reads {SIDECAR_FORMAT}.",
            "build the engine again with this version of dad-edge",
        )
    return from_mapping(Sidecar, mapping, str(path))


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Put the sidecar into an engine's folder."""
    write_json(folder / SIDECAR, to_mapping(sidecar))


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
            "build one for this machine: "
            f"dad-edge build --precision {sidecar.precision} --runtime onnxruntime",
        )
    differences = _differences(bundle, name, sidecar)
    if differences:
        raise ModelError(
            f"engine '{name}' does not fit: {'; '.join(differences)}.",
            "rebuild it with 'dad-edge build "
            f"--precision {sidecar.precision} --runtime {sidecar.runtime}'",
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
