"""The result of a study, field by field: what `bench --json` prints and a results file holds."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import msgspec

from dad_edge.errors import DataError
from dad_edge.machine.load import Load
from dad_edge.machine.sensors import Sensors

SCHEMA_VERSION = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Percentiles:
    """Percentiles of many times, in milliseconds."""

    p50: float
    p90: float
    p95: float
    p99: float


@dataclass(frozen=True, kw_only=True, slots=True)
class StageTime(Percentiles):
    """One step of an inspection."""

    share: float
    """Of the whole latency, in [0,1]."""
    gflop: float | None
    """Arithmetic of one call; None for a step without a network."""
    gflop_per_s: float | None
    """At the median time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configuration:
    """What a row measured, in plain values."""

    name: str
    """The configuration in words; equal configurations have equal names."""
    method: str
    """The method, as the paper's tables call it."""
    lambdas: tuple[int, ...]
    """Time steps of the inference; empty for a method without noise."""
    size: str
    image_size: int
    """Pixels to a side of the model's input."""
    batch: int
    """Frames inspected together."""
    cameras: int
    """Sources that are inspected at the same time."""
    decode: bool
    """Whether a frame begins as a JPEG file in memory."""
    precision: str
    engine: str
    device: str
    """`cpu` or `cuda`."""
    weights: str
    """Name of the bundle that the weights are from, or `UNTRAINED`."""
    studies: tuple[str, ...] = ()
    """The studies that show the row."""

    @property
    def frames_a_call(self) -> int:
        """Frames that one call inspects."""
        return self.batch * self.cameras

    @property
    def is_one_frame(self) -> bool:
        """Whether one frame from one camera is inspected at a time, its pixels in hand."""
        return self.frames_a_call == 1 and not self.decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Row(Configuration):
    """A measured configuration."""

    backend: str
    """What ran, with its version."""
    threads: int
    """Of the networks."""
    setup_s: float
    """Seconds from nothing to an open inspector."""
    frames: int
    """Inspected frames that count."""
    warm_up_calls: int
    """Calls before the first that counts."""
    wall_s: float
    """Seconds in which the counted frames were inspected."""
    fps: float
    """Frames per second."""
    latency_ms: Percentiles
    """From the frames in hand to their verdicts."""
    median_interval_ms: tuple[float, float] | None
    """95 % confidence interval of the median latency; None for too few calls."""
    unstable: str | None
    """Why the figures are not to be quoted; None if they can be."""
    slowed_share: float | None
    """Share of the time in which the machine itself was slowed; None if it was not watched."""
    overhead_share: float
    """Share of the time that was spent between the calls."""
    networks_ms: Percentiles | None
    """Both networks alone, without copies between host and device; None where that is not known."""
    stages: dict[str, StageTime]
    """Step → its time."""
    gflop: float | None
    """Arithmetic of one frame; None where it cannot be counted."""
    bytes: int | None
    """Traffic of one call, if nothing stays in a cache between two layers."""
    machine_speed: dict[str, float] | None = None
    """Task → the machine's speed as a share of its full speed; None on a GPU."""
    load: Load
    """Other work on the machine at the same time."""
    cpu_mhz: float | None
    """Mean clock over the cores, after the row."""
    temperature_c: float | None
    """Of the hottest zone in degrees Celsius, after the row."""
    throttling: tuple[str, ...]
    """Reasons why the device was slower than it can be."""
    roof_fps: float | None = None
    """Frames per second that the measured peaks allow; None where one is not known."""
    arithmetic_fps: float | None = None
    """Frames per second that the peak of arithmetic alone allows."""
    memory_fps: float | None = None
    """Frames per second that the peak of memory traffic alone allows."""
    share_of_roof: float | None = None
    """`fps` as a share of `roof_fps`."""
    times_eager: float | None = None
    """`fps` ÷ that of the same networks in PyTorch as the authors run them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NotMeasured(Configuration):
    """A configuration that was not measured."""

    reason: str
    next: str | None
    """What to do about the reason, where something can be done."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerGroup:
    """One part of the networks on one runtime."""

    group: str
    ms: float
    """Of one frame."""
    share: float
    """Of the time of all layers, in [0,1]."""
    gflop: float
    gflop_per_s: float | None
    share_of_roof: float | None
    """The least time that the peaks allow ÷ the time; None where a peak is not known."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SlowLayer:
    """One of the slowest layers."""

    name: str
    op: str
    """ONNX operator, or the runtime's own name for a step that is no layer of the graph."""
    group: str
    shape: tuple[int, ...]
    """Shape of the layer's output; empty where it is not known."""
    ms: float
    share: float
    """Of the time of all layers, in [0,1]."""
    gflop_per_s: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerProfile:
    """Where the time of one frame goes on one runtime, or why that is not known."""

    engine: str
    ms: float | None = None
    """Milliseconds of all layers; None if there is no profile."""
    groups: tuple[LayerGroup, ...] = ()
    slowest: tuple[SlowLayer, ...] = ()
    reason: str | None = None
    """Why there is no profile."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SweepPoint:
    """One row of a sweep."""

    x: float
    """Its place on the axis."""
    ms: float
    """Median milliseconds of a call."""
    fps: float
    gflop: float | None
    """Of one frame."""
    name: str
    """Of the row."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sweep:
    """Time against what is varied, and the straight line through it."""

    axis: str
    """What is varied."""
    points: tuple[SweepPoint, ...]
    missing: tuple[str, ...]
    """Names of rows that were not measured."""
    slope_ms: float | None = None
    """Milliseconds more for each step of one on the axis; None where no line was fitted."""
    intercept_ms: float | None = None
    r2: float | None = None
    """R² of the line."""
    straight: bool | None = None
    reason: str | None = None
    """Why it is no straight line."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PeakRates:
    """What the devices can do at best; None where nothing here can measure it."""

    gflop_per_s: dict[str, float | None]
    """Device and precision → rate of a large matrix product."""
    gbyte_per_s: dict[str, float | None]
    """Device → rate of a large copy, reads and writes together."""
    measured_with: str


@dataclass(frozen=True, kw_only=True, slots=True)
class MeasuredBundle:
    """The bundle whose graphs were run."""

    name: str
    """Name of its folder, without the folders above it."""
    class_name: str
    sha256: dict[str, str]
    """Graph → digest."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawnFrames:
    """What was inspected."""

    source: str
    count: int
    height: int
    """In pixels."""
    width: int
    """In pixels."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudySensors:
    """What the device reported about itself before and after the study."""

    before: Sensors
    after: Sensors
    throttling: tuple[str, ...]
    """Reasons why the device was slower than it can be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StudyResult:
    """A whole study."""

    schema_version: int = SCHEMA_VERSION
    study: str
    date: str
    """ISO 8601, UTC."""
    environment: dict[str, Any]
    """The machine, as `dad_edge.machine.environment.describe_machine` describes it."""
    bundle: MeasuredBundle
    frames: DrawnFrames
    load: Load
    """Other work on the machine over the whole study."""
    sensors: StudySensors
    peak: PeakRates
    rows: tuple[Row, ...]
    not_measured: tuple[NotMeasured, ...]
    layers: tuple[LayerProfile, ...] | None = None
    """One entry for each CPU runtime; None if the study has no row that asks for it."""
    scaling: tuple[Sweep, ...] | None = None
    """The sweeps; None if the study varies nothing."""

    @property
    def device(self) -> str:
        """Short name of what computed."""
        return str(self.environment["device"])


def values_of(record: Any) -> dict[str, Any]:
    """Field → value of a record, to make a record that has the same fields and more."""
    return {field.name: getattr(record, field.name) for field in fields(record)}


def to_json(result: StudyResult) -> dict[str, Any]:
    """A result as plain values by field; parts that were not asked for are left out."""
    values: dict[str, Any] = msgspec.to_builtins(result)
    for key in ("layers", "scaling"):
        if values[key] is None:
            del values[key]
    for profile in values.get("layers", ()):
        absent = ("reason",) if profile["reason"] is None else ("ms", "groups", "slowest")
        for key in absent:
            del profile[key]
    return values


def read_result(path: Path) -> StudyResult:
    """Read a results file of the current schema.

    Raises:
        DataError: it is missing, damaged or not such a file.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}.", "give a file of bench --out") from error
    again = "measure again with this version: dad-edge bench --out FILE"
    if not isinstance(value, dict) or value.get("schema_version") != SCHEMA_VERSION:
        raise DataError(f"{path} is not a bench result of schema {SCHEMA_VERSION}.", again)
    try:
        return msgspec.convert(value, StudyResult)
    except msgspec.ValidationError as error:
        raise DataError(f"{path} is not a whole bench result: {error}.", again) from error
