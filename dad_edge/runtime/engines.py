"""The engines of a bundle, and whether each fits this machine and this bundle."""

from __future__ import annotations

import importlib
import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dad_edge.bundle import CALIBRATION, DENOISER, ENGINES, SEGMENTER, Bundle, Thresholds
from dad_edge.config import ModelConfig, Precision, RuntimeName
from dad_edge.errors import DeviceError, ModelError
from dad_edge.files import sha256_of
from dad_edge.image.scene import Scene
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.made import made_here
from dad_edge.model.onnx_file import tensor_elsewhere
from dad_edge.runtime.cpu.engine_openvino import openvino_version
from dad_edge.runtime.gpu.tensorrt_api import MODULES, load_tensorrt
from dad_edge.runtime.sidecar import (
    KERNEL_FOLDER,
    SIDECAR,
    Sidecar,
    build_command,
    list_engines,
    plan_differences,
    read_sidecar,
    rebuild_command,
    this_platform,
    thresholds_for,
)
from dad_edge.signature import TRUSTED_KEYS

CPU_RUNTIMES: dict[RuntimeName, str] = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""Runtimes whose engines are typed ONNX graphs, and their names for people."""
UNCALIBRATED = 0.5
"""Threshold of images and pixels where none was calibrated: the middle of the range of scores."""

_PREFERENCE: tuple[Precision, ...] = ("fp16", "int8", "fp32")
"""The order in which engines are tried where none is named."""

_NOT_USED = "engine '%s' is not used: %s; 'dad-edge build' makes it again."
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineChoice:
    """What inspects with a bundle, and at which thresholds."""

    bundle: Bundle
    sidecar: Sidecar | None
    """Sidecar of an engine that fits machine and bundle; None for the FP32 graphs on the CPU."""
    thresholds: Thresholds | None
    """The thresholds that hold for it; None where nothing was calibrated."""
    thresholds_origin: str
    """Where they come from, in words."""
    passed_over: tuple[str, ...] = ()
    """Engines that come before it in order and were not taken, each with the reason."""
    scene: Scene | None = None
    """What a frame has to look like; None where scores are judged and not parts."""

    @property
    def name(self) -> str | None:
        """Name of the engine; None for the FP32 graphs."""
        return self.sidecar.name if self.sidecar else None

    @property
    def image_threshold(self) -> float:
        """Scores above it are defects."""
        return self.thresholds.image_threshold if self.thresholds else UNCALIBRATED

    @property
    def pixel_threshold(self) -> float:
        """Pixels above it are outlined as defective."""
        return self.thresholds.pixel_threshold if self.thresholds else UNCALIBRATED


def with_thresholds(bundle: Bundle, sidecar: Sidecar | None) -> EngineChoice:
    """An engine that fits, or the bundle's FP32 graphs, with the thresholds that hold for it."""
    thresholds, origin = thresholds_for(bundle, sidecar.name if sidecar else None)
    return EngineChoice(bundle, sidecar, thresholds, origin)


def engines_here(bundle: Bundle) -> list[Sidecar]:
    """Engines that this machine can run and that the accuracy gate did not reject.

    These are the engines for its GPU if there are any, else those for its CPU; the likely best
    comes first. Engines that no longer fit the bundle, and those of other versions, are left out,
    and a warning names them.

    Raises:
        ModelError: there are engines for its GPU and none of them fits the bundle any more. A line
            that had a GPU must not fall back to the CPU without a word.
    """
    entries = [
        (name, sidecar, _differences(bundle, name, sidecar))
        for name, sidecar in _readable(bundle)
        if sidecar.gate.passed is not False and why_not_here(sidecar) is None
    ]
    on_gpu = [entry for entry in entries if entry[1].runtime not in CPU_RUNTIMES]
    fitting = [entry for entry in on_gpu or entries if not entry[2]]
    if on_gpu and not fitting:
        _refuse(*min(on_gpu, key=lambda entry: _preference(entry[1])))
    for name, _, differences in on_gpu or entries:
        if differences:
            _log.warning(_NOT_USED, name, "; ".join(differences))
    return sorted((sidecar for _, sidecar, _ in fitting), key=_preference)


def _preference(sidecar: Sidecar) -> tuple[bool, int, str]:
    return not sidecar.gate.passed, _PREFERENCE.index(sidecar.precision), sidecar.name


def _readable(bundle: Bundle) -> Iterator[tuple[str, Sidecar]]:
    """The engines of a bundle, except those of other versions of this program and damaged ones."""
    for name in list_engines(bundle):
        try:
            sidecar = read_sidecar(bundle, name)
        except ModelError as error:
            _log.warning(_NOT_USED, name, error.message.rstrip("."))
            continue
        yield name, sidecar


def why_not_here(sidecar: Sidecar) -> str | None:
    """Why an engine cannot run on this machine with this version, or None if it can."""
    if sidecar.runtime in CPU_RUNTIMES:
        if importlib.util.find_spec(sidecar.runtime) is None:
            return f"package '{sidecar.runtime}' is not installed"
        return None
    for module in ("cuda", "cuda.bindings", MODULES[sidecar.runtime]):
        if importlib.util.find_spec(module) is None:
            return f"package '{module}' is not installed"
    nvidia = describe_nvidia()
    if not nvidia["gpus"]:
        return str(nvidia["reason"])
    gpu = nvidia["gpus"][0]
    differences = plan_differences(
        sidecar,
        version=str(load_tensorrt(sidecar.runtime).__version__),
        capability=gpu["compute_capability"],
        platform=this_platform(),
        gpu=gpu["name"],
        multiprocessors=gpu["multiprocessors"],
    )
    return "; ".join(differences) or None


def cpu_runtime_version(runtime: RuntimeName) -> str:
    """Version of a CPU runtime that is installed."""
    if runtime == "openvino":
        return openvino_version()
    return str(importlib.import_module(runtime).__version__)


def rows_of(model: ModelConfig, graph: str) -> int:
    """Number of rows that one frame takes in the input of a graph."""
    guided = graph == SEGMENTER and model.fusion == "norm_guided"
    down, across = model.framing.tiles
    return down * across * (1 if guided else len(model.lambdas))


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
    _refuse(name, sidecar, _differences(bundle, name, sidecar))
    return sidecar


def _refuse(name: str, sidecar: Sidecar, differences: list[str]) -> None:
    """Raise an error if an engine differs from what it has to be."""
    if differences:
        raise ModelError(
            f"engine '{name}' does not fit: {'; '.join(differences)}.",
            f"rebuild it with '{rebuild_command(sidecar)}'",
        )


def _differences(bundle: Bundle, name: str, sidecar: Sidecar) -> list[str]:
    differences = []
    if sidecar.runtime in CPU_RUNTIMES:
        version = cpu_runtime_version(sidecar.runtime)
        if sidecar.runtime_version != version:
            runtime = CPU_RUNTIMES[sidecar.runtime]
            differences.append(f"built with {runtime} {sidecar.runtime_version}, here is {version}")
    if sidecar.name != name:
        differences.append(f"its folder is named '{name}', its sidecar says '{sidecar.name}'")
    for graph, digest in bundle.onnx_digests.items():
        if sidecar.onnx_sha256.get(graph) != digest:
            differences.append(f"built from another {graph}")
    ranges = bundle.manifest.sha256.get(CALIBRATION)
    if sidecar.precision == "int8" and sidecar.calibration_sha256 != ranges:
        differences.append(f"built from another {CALIBRATION}")
    if sidecar.can_saturate:
        differences.append("its weights are too large for CPUs without VNNI instructions")
    folder = bundle.path / ENGINES / name
    for graph in (DENOISER, SEGMENTER):
        file = sidecar.files.get(graph)
        path = folder / (file.name if file else graph)
        if file is None or not path.is_file() or sha256_of(path) != file.sha256:
            differences.append(f"{path.name} is missing or was changed")
        elif sidecar.runtime in CPU_RUNTIMES and tensor_elsewhere(path) is not None:
            differences.append(f"{path.name} has numbers in another file")
    differences += [
        f"{path.name} is not of this engine"
        for path in sorted((folder / KERNEL_FOLDER).glob("*"))
        if path.name not in sidecar.kernels
    ]
    for kernel, digest in sidecar.kernels.items():
        path = folder / KERNEL_FOLDER / Path(kernel).name
        if not path.is_file() or sha256_of(path) != digest:
            differences.append(f"{path.name} is missing or was changed")
    return differences or _not_trusted(bundle, folder, sidecar)


def _not_trusted(bundle: Bundle, folder: Path, sidecar: Sidecar) -> list[str]:
    """Files of an engine that nobody trusted signed and that were not made here, in words.

    Where nothing has to be signed this is asked only of plans with code for the host's processor:
    everything else runs on the GPU, or is a graph that a runtime reads.
    """
    plans = {file.name: file.sha256 for file in sidecar.files.values()}
    if bundle.trusted is not None:
        asked = plans | sidecar.kernels | {SIDECAR: sha256_of(folder / SIDECAR)}
        return [
            f"{name} was neither signed by a trusted key nor made here"
            for name, digest in asked.items()
            if digest not in bundle.trusted
        ]
    if sidecar.options.version_compatible and not made_here().issuperset(plans.values()):
        return [
            "it brings code for this computer's processor (--version-compatible), was not built "
            f"here, and {TRUSTED_KEYS} is not set"
        ]
    return []
