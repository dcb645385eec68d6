"""Rows and results of studies that nobody measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dad_edge.bench.result import (
    DrawnFrames,
    MeasuredBundle,
    NotMeasured,
    PeakRates,
    Percentiles,
    Row,
    StudyResult,
    StudySensors,
)
from dad_edge.bundle import DENOISER, SEGMENTER
from dad_edge.machine.load import Load
from dad_edge.machine.sensors import Sensors

IDLE = Load(other_cores=0.0, stolen_share=0.0, load_average=(0.0, 0.0, 0.0), cores=2, loaded=False)

ABOUT: dict[str, Any] = {
    "name": "DiffusionAD nano 128 px, λ 100, 200, ONNX Runtime cpu fp32",
    "method": "DiffusionAD",
    "lambdas": (100, 200),
    "size": "nano",
    "image_size": 128,
    "batch": 1,
    "cameras": 1,
    "decode": False,
    "precision": "fp32",
    "engine": "ONNX Runtime",
    "device": "cpu",
    "weights": "bundle",
    "studies": ("main",),
}


def make_row(p50: float = 10.0, **changes: Any) -> Row:
    """A steady row with this median latency, in milliseconds."""
    values: dict[str, Any] = {
        "backend": "NumPy + ONNX Runtime 1.32.0 CPU fp32, 2 threads",
        "threads": 2,
        "setup_s": 0.1,
        "frames": 100,
        "warm_up_calls": 3,
        "wall_s": p50 / 10,
        "fps": 1e3 / p50,
        "latency_ms": Percentiles(p50=p50, p90=p50, p95=p50, p99=p50),
        "median_interval_ms": (p50 * 0.99, p50 * 1.01),
        "unstable": None,
        "slowed_share": 0.0,
        "overhead_share": 0.001,
        "networks_ms": None,
        "stages": {},
        "gflop": 2.0,
        "bytes": 10**8,
        "load": IDLE,
        "cpu_mhz": None,
        "temperature_c": None,
        "throttling": (),
    }
    return Row(**(ABOUT | values | changes))


def make_not_measured(**changes: Any) -> NotMeasured:
    """The same configuration, not measured."""
    return NotMeasured(**(ABOUT | {"reason": "left out: too slow here", "next": None} | changes))


def make_result(rows: Sequence[Row], **changes: Any) -> StudyResult:
    """A study of these rows."""
    values: dict[str, Any] = {
        "study": "main",
        "date": "2026-11-25T12:00:00+00:00",
        "environment": {"device": "a CPU, 2 cores", "commit": None, "packages": {}},
        "bundle": MeasuredBundle(
            name="bundle", class_name="flange", sha256={DENOISER: "d", SEGMENTER: "s"}
        ),
        "frames": DrawnFrames(source="drawn", count=16, height=256, width=256),
        "load": IDLE,
        "sensors": StudySensors(before=Sensors(), after=Sensors(), throttling=()),
        "peak": PeakRates(gflop_per_s={}, gbyte_per_s={}, measured_with="nothing"),
        "rows": tuple(rows),
        "not_measured": (),
    }
    return StudyResult(**(values | changes))
