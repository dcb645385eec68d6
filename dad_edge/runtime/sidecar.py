"""`engine.json`: what an engine is, and everything that must match before it is run."""

from __future__ import annotations

import os
import re
import reprlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from platform import machine, system
from typing import Literal

from dad_edge.bundle import ENGINES, REPORTS, THRESHOLDS, Bundle, Thresholds
from dad_edge.config import Precision, RuntimeName
from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import ModelError, UsageError
from dad_edge.files import is_file_name, sha256_of, write_json

SIDECAR = "engine.json"
ENGINE_THRESHOLDS = "thresholds.json"
OF_ENGINE = f"{ENGINE_THRESHOLDS} of the engine"
"""Where an engine's own thresholds come from, in words."""
KERNEL_FOLDER = "kernels"
"""Folder in an engine's folder with the CUDA kernels for its GPUs."""
SIDECAR_FORMAT = 2
GATE_REPORT = "verify.json"
"""The report of the accuracy gate, in the folder of the engine's reports."""

GateOutcome = Literal["passed", "failed", "not judged"]
"""Outcome of the accuracy gate; an engine that is not judged runs only where it is named."""

CPU_PAIR_LIMIT = 128
"""Largest sum of the magnitudes of two weights of a channel in INT8 engines for CPUs.

Without VNNI instructions a CPU adds the products of two weights with two unsigned 8-bit activations
in 16 bits, which saturate at 32767. Which two weights are added depends on the kernel; 255 * 128
fits whichever they are.
"""

_VERSION = re.compile(r"\d[\w.+!-]{0,60}", re.ASCII)
_DEVICE = re.compile(r"cpu|ampere-plus|sm\d{2,4}(-sm\d{2,4})*", re.ASCII)
_REBUILD = "restore the file, or build the engine again"


def _check_file_name(name: str) -> None:
    if not is_file_name(name):
        raise UsageError(f"{name!r} is no file of the engine.", _REBUILD)


@dataclass(frozen=True, kw_only=True, slots=True)
class BuilderOptions:
    """Options of a TensorRT builder; None leaves the choice to the builder."""

    workspace_mib: int | None = None
    """Limit of the builder's scratch memory in MiB, and of that of the kernels it may choose."""
    optimization_level: int | None = None
    """0 to 5: how long the builder looks for fast kernels; TensorRT's own default is 3."""
    hardware_compatible: bool = False
    """One plan for every GPU from Ampere on, slower than a plan for one GPU; not on a Jetson."""
    version_compatible: bool = False
    """The plan runs on later versions of the same major version too, and is larger."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineFile:
    """One network of an engine on disk."""

    name: str
    """File name inside the engine's folder."""
    sha256: str
    bytes: int
    traffic_bytes: int | None = None
    """What its layers read and write for one frame; None where the builder does not list them."""

    def __post_init__(self) -> None:
        _check_file_name(self.name)


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerChoice:
    """Which layers of an INT8 engine are not INT8, and the limit that they were chosen for."""

    float_layers: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Graph of the bundle → its layers that stay float, costliest first."""
    max_drop: float | None = None
    """Largest drop of the image AUROC in points; the gate's usual limit if None."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Gate:
    """What the accuracy gate said about an engine."""

    passed: bool | None = None
    """Whether the engine passed; None while the gate has not run, or where it could not judge."""
    reason: str = "the accuracy gate has not run"

    @property
    def outcome(self) -> GateOutcome:
        """What the gate said, in words."""
        if self.passed is None:
            return "not judged"
        return "passed" if self.passed else "failed"


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
    kernels: dict[str, str] = field(default_factory=dict)
    """File in `kernels/` → sha256: the CUDA kernels, compiled for the engine's GPUs."""
    profiles: tuple[tuple[int, int, int], ...] = ()
    """Smallest, best and largest number of frames in a batch for every optimisation profile of
    both plans, in order; empty where there is no limit. The rows of a profile are that number
    times the rows of one frame."""
    options: BuilderOptions = field(default_factory=BuilderOptions)
    """A version-compatible plan needs `engine_host_code_allowed` to be opened."""
    platform: str = ""
    """System and processor that a plan is for, such as `Linux-aarch64`; empty for typed graphs."""
    gpu: str = ""
    """Name of the GPU that a plan's kernels were chosen on; empty where they fit others too."""
    multiprocessors: int = 0
    """Of that GPU; a part of a GPU has its name and fewer of them."""
    layers: LayerChoice = field(default_factory=LayerChoice)
    pair_limit: int | None = None
    """Largest sum of the magnitudes of two INT8 weights of a channel; None without a limit, as in
    engines for GPUs and engines of older versions."""
    build_seconds: float
    peak_memory_mib: float
    """Largest memory of a process that built one of the networks."""
    gate: Gate
    proof_sha256: str | None = None
    """Digest of `proof.npz`, by which the engine proves itself where it runs."""

    def __post_init__(self) -> None:
        for name in self.kernels:
            _check_file_name(name)
        for label, pattern in (("runtime_version", _VERSION), ("device", _DEVICE)):
            if not pattern.fullmatch(getattr(self, label)):
                raise UsageError(f"{label} {getattr(self, label)!r} is not one.", _REBUILD)
        for fewest, best, most in self.profiles:
            if not 1 <= fewest <= best <= most:
                raise UsageError(
                    f"a profile must ascend from at least 1, got {[fewest, best, most]}.", _REBUILD
                )

    @property
    def name(self) -> str:
        """Name of the engine's folder."""
        return f"{self.device}-{self.runtime}-{self.runtime_version}-{self.precision}"

    @property
    def traffic_bytes(self) -> int | None:
        """What both networks read and write for one frame; None where it is not known."""
        each = [file.traffic_bytes for file in self.files.values()]
        known = [size for size in each if size is not None]
        return sum(known) if known and len(known) == len(each) else None

    @property
    def can_saturate(self) -> bool:
        """Whether its sums overflow on some CPUs; ONNX Runtime computes such graphs in float."""
        is_exposed = (self.runtime, self.precision) == ("openvino", "int8")
        return is_exposed and (self.pair_limit is None or self.pair_limit > CPU_PAIR_LIMIT)


def list_engines(bundle: Bundle) -> list[str]:
    """Names of the engines in a bundle, in order."""
    return sorted(
        path.parent.name
        for path in (bundle.path / ENGINES).glob(f"*/{SIDECAR}")
        if not path.parent.name.startswith(".")
    )


def read_sidecar(bundle: Bundle, name: str) -> Sidecar:
    """The sidecar of an engine.

    Raises:
        ModelError: there is no such engine, or its sidecar is damaged.
    """
    path = bundle.path / ENGINES / name / SIDECAR
    if name not in (names := list_engines(bundle)):
        raise ModelError(
            f"{bundle.path} has no engine '{name}'; it has: {', '.join(names) or 'none'}.",
            f"{'name one of these' if names else 'leave the name out'}, or make one with "
            "'dad-edge build --precision fp16'",
        )
    mapping = read_json(path)
    if mapping.get("format") != SIDECAR_FORMAT:
        raise ModelError(
            f"{path}: format {reprlib.repr(mapping.get('format'))}, this version reads "
            f"{SIDECAR_FORMAT}.",
            "build the engine again with this version of dad-edge",
        )
    sidecar = from_mapping(Sidecar, mapping, str(path))
    return replace(sidecar, gate=_with_figures(bundle, name, sidecar.gate))


def _with_figures(bundle: Bundle, name: str, gate: Gate) -> Gate:
    """The gate's outcome, which is "not judged" for a report without a figure of accuracy.

    Earlier versions let an engine pass although they could measure nothing.
    """
    path = bundle.path / REPORTS / name / GATE_REPORT
    if not gate.passed or not path.is_file():
        return gate
    try:
        report = read_json(path)
    except ModelError:  # a damaged report says nothing about the engine
        return gate
    if report.get("auroc_drop", 0.0) is not None and report.get("pro_drop", 0.0) is not None:
        return gate
    return Gate(reason="it passed although AUROC or PRO was not measured")


def judge_command(name: str) -> str:
    """The command that gets an engine judged."""
    return f"dad-edge verify --engine {name} --data FOLDER"


def write_sidecar(folder: Path, sidecar: Sidecar) -> None:
    """Put the sidecar into an engine's folder."""
    write_json(folder / SIDECAR, to_mapping(sidecar))


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineThresholds:
    """`thresholds.json` in an engine's folder: thresholds for the scores that it gives."""

    thresholds: Thresholds
    beside_sha256: str
    """Digest of the bundle's own `thresholds.json` at that time."""
    beside_quantiles: dict[str, float] = field(default_factory=dict)
    """The `normal_score_quantiles` in that file; they change with a calibration alone."""


def write_engine_thresholds(bundle: Bundle, name: str, thresholds: Thresholds) -> None:
    """Put thresholds into an engine's folder, valid while the bundle's own stay as they are."""
    record = EngineThresholds(
        thresholds=thresholds,
        beside_sha256=sha256_of(bundle.path / THRESHOLDS),
        beside_quantiles=bundle.thresholds.normal_score_quantiles if bundle.thresholds else {},
    )
    write_json(bundle.path / ENGINES / name / ENGINE_THRESHOLDS, to_mapping(record))


def thresholds_for(bundle: Bundle, name: str | None) -> tuple[Thresholds | None, str]:
    """The thresholds that an engine runs with, and where they come from, in words.

    The bundle's `thresholds.json` belongs to the operator. An engine's own thresholds stand in for
    it only while it is the file that they were derived beside: once it is edited, or made anew by
    a calibration, it holds for every engine until they are derived again. After an edit the scores
    of good parts are still those that the engine itself gave, which the drift alarm compares with.

    Args:
        bundle: a checked bundle.
        name: of the engine; None for the FP32 graphs.
    """
    path = bundle.path / ENGINES / name / ENGINE_THRESHOLDS if name else None
    if bundle.thresholds is None:
        return None, "not calibrated"
    if path is None or not os.path.lexists(path):
        return bundle.thresholds, f"{THRESHOLDS} of the bundle"
    record = from_mapping(EngineThresholds, read_json(path), str(path))
    if record.beside_sha256 != sha256_of(bundle.path / THRESHOLDS):
        held = bundle.thresholds
        if record.beside_quantiles == held.normal_score_quantiles:
            quantiles = record.thresholds.normal_score_quantiles
            held = replace(held, normal_score_quantiles=quantiles)
        return held, f"{THRESHOLDS} of the bundle, which was changed since"
    return record.thresholds, OF_ENGINE


def plan_differences(
    sidecar: Sidecar,
    *,
    version: str,
    capability: str,
    platform: str,
    gpu: str,
    multiprocessors: int,
) -> list[str]:
    """What keeps TensorRT plans from running on a machine, in words.

    Args:
        sidecar: of the engine.
        version: of the runtime there.
        capability: compute capability of the GPU there, such as `8.7`.
        platform: system and processor there, such as `Linux-aarch64`.
        gpu: name of the GPU there.
        multiprocessors: of the GPU there.
    """
    differences = []
    built, here = _numbers(sidecar.runtime_version), _numbers(version)
    newer = sidecar.options.version_compatible and built[:1] == here[:1] and built <= here
    if built != here and not newer:
        differences.append(
            f"built with {sidecar.runtime} {sidecar.runtime_version}, here is {version}"
        )
    if sidecar.options.hardware_compatible:
        if _numbers(capability) < (8, 0):
            differences.append(
                f"built for GPUs from compute capability 8.0 on, here is {capability}"
            )
    elif capability not in capabilities_of(sidecar):
        listed = " and ".join(capabilities_of(sidecar))
        differences.append(f"built for compute capability {listed}, here is {capability}")
    elif sidecar.gpu and (sidecar.gpu, sidecar.multiprocessors) != (gpu, multiprocessors):
        differences.append(
            f"built on {sidecar.gpu} with {sidecar.multiprocessors} multiprocessors, here is "
            f"{gpu} with {multiprocessors}"
        )
    if sidecar.platform != platform:
        differences.append(f"built for {sidecar.platform}, here is {platform}")
    return differences


def this_platform() -> str:
    """System and processor of this machine, as a sidecar names them."""
    return f"{system()}-{machine()}"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def device_name(capabilities: tuple[str, ...], options: BuilderOptions) -> str:
    """Name of the device in an engine's name: `cpu`, `sm86-sm89`, or `ampere-plus`."""
    if options.hardware_compatible:
        return "ampere-plus"
    return "-".join(f"sm{c.replace('.', '')}" for c in capabilities) or "cpu"


def capabilities_of(sidecar: Sidecar) -> tuple[str, ...]:
    """Compute capabilities that an engine was built for, such as `8.6`; none for a CPU."""
    names = [name[2:] for name in sidecar.device.split("-") if name.startswith("sm")]
    return tuple(f"{name[:-1]}.{name[-1]}" for name in names)


def build_command(
    runtime: RuntimeName,
    precision: Precision,
    *,
    capabilities: tuple[str, ...] = (),
    frames: tuple[int, ...] = (),
    options: BuilderOptions | None = None,
) -> str:
    """The command that builds an engine.

    Args:
        runtime: of the engine.
        precision: of the engine.
        capabilities: that TensorRT-RTX builds for ahead of time.
        frames: numbers of frames in a batch; the usual ones if none are named.
        options: of the builder.
    """
    options = options or BuilderOptions()
    words = [f"dad-edge build --precision {precision} --runtime {runtime}"]
    if runtime == "tensorrt-rtx":
        words += [f"--compute-capability {capability}" for capability in capabilities]
    words += [f"--frames {count}" for count in frames]
    if options.workspace_mib is not None:
        words.append(f"--workspace-mib {options.workspace_mib}")
    if options.optimization_level is not None:
        words.append(f"--optimization-level {options.optimization_level}")
    if options.hardware_compatible:
        words.append("--hardware-compatible")
    if options.version_compatible:
        words.append("--version-compatible")
    return " ".join(words)


def rebuild_command(sidecar: Sidecar) -> str:
    """The command that builds an engine again, for the machine it is run on."""
    command = build_command(
        sidecar.runtime,
        sidecar.precision,
        capabilities=capabilities_of(sidecar),
        frames=tuple(sorted({n for _, best, most in sidecar.profiles for n in (best, most)})),
        options=sidecar.options,
    )
    if sidecar.layers.max_drop is not None:
        command += f" --max-drop {sidecar.layers.max_drop:g} --data FOLDER"
    return command
