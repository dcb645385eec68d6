"""Measured frames per second of a bundle on this machine, and where every millisecond goes.

Frames are drawn beforehand. One frame is in flight at a time: its latency runs from the frame in
hand to its verdict, and throughput is completed frames ÷ wall time of the same loop.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.environment import describe, usable_cores
from dad_edge.graph_cost import count_gflop
from dad_edge.machine_load import LoadWatch
from dad_edge.runtime.engine_onnx import OnnxEngine
from dad_edge.runtime.inspection import STAGES, Inspector
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.sidecar import read_sidecar

SCHEMA_VERSION = 1
FRAMES = 16
FRAME_SIDE = 256
WARM_UP_SHARE = 0.1
"""Share of the asked time that is run before anything is counted, on top of three frames."""
ROUNDS = 3
"""A run that is not steady goes on for up to this many times the asked time."""
STEADY = 0.02
"""Steady: the median's confidence interval reaches at most this share to either side of it, and
the medians of the run's two halves differ by at most twice that."""
FEWEST_FRAMES = 3
GEMM_SIDE = 1024

Progress = Callable[[str, float], None]
"""Called about once a second with what is being done and the share that is done."""


@dataclass(slots=True)
class Samples:
    """One measured run."""

    wall_s: float = 0.0
    warm_up_frames: int = 0
    latency_ms: list[float] = field(default_factory=list)
    """Frame in hand → verdict, in order."""
    stage_ms: list[dict[str, float]] = field(default_factory=list)


def run_bench(
    bundle: Bundle,
    *,
    engine: str | None = None,
    seconds: float = 10.0,
    progress: Progress = lambda what, share: None,
) -> dict[str, Any]:
    """Measure a bundle on the CPU with ONNX Runtime, batch 1, all usable cores.

    Args:
        bundle: a checked bundle.
        engine: name of a built engine; the bundle's graphs in FP32 if None.
        seconds: how long to measure; up to three times as long while the figures are not steady.
        progress: told how far the run is.

    Returns:
        Plain values for JSON, described in `benchmarks/README.md`.
    """
    from dad_edge.data.demo import line

    progress("drawing frames", 0.0)
    frames = [sample.image for sample in islice(line(size=FRAME_SIDE), FRAMES)]
    started = time.perf_counter()
    inspector = open_inspector(bundle, engine=engine)
    precision = read_sidecar(bundle, engine).precision if engine else "fp32"
    setup_s = time.perf_counter() - started
    gemm_s = min(0.5, seconds / 10)
    peak_before = peak_gflops(usable_cores(), gemm_s)
    with LoadWatch() as watch:
        samples = measure(inspector, frames, seconds, progress)
    peak = max(peak_before, peak_gflops(usable_cores(), gemm_s))
    return {
        "schema_version": SCHEMA_VERSION,
        "study": "bench",
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "environment": describe(),
        "bundle": {
            "name": bundle.path.resolve().name,
            "class_name": bundle.manifest.class_name,
            "sha256": bundle.onnx_digests,
        },
        "frames": {"source": "demo product, drawn beforehand", "count": FRAMES}
        | {"height": FRAME_SIDE, "width": FRAME_SIDE},
        "load": watch.load.to_mapping(),
        "peak": {
            "gflop_per_s": round(peak, 1),
            "measured_with": f"ONNX Runtime CPU, float32 matrix product of side {GEMM_SIDE}, "
            f"{usable_cores()} threads, best run before and after the frames",
        },
        "rows": [summarise(bundle, precision, inspector.backend, samples, setup_s, peak)],
    }


def measure(
    inspector: Inspector,
    frames: Sequence[NDArray[np.uint8]],
    seconds: float,
    progress: Progress = lambda what, share: None,
) -> Samples:
    """Inspect frames one after the other until the time is over and the figures are steady."""
    samples = Samples()
    warm_up_end = time.perf_counter() + seconds * WARM_UP_SHARE
    while samples.warm_up_frames < FEWEST_FRAMES or time.perf_counter() < warm_up_end:
        inspector.inspect(frames[samples.warm_up_frames % len(frames)])
        samples.warm_up_frames += 1
    begin = shown = time.perf_counter()
    for round_number in range(1, ROUNDS + 1):
        what = "measuring" if round_number == 1 else "not steady yet, measuring on"
        end = begin + round_number * seconds
        while (now := time.perf_counter()) < end or len(samples.latency_ms) < FEWEST_FRAMES:
            if now - shown > 1:
                shown = now
                progress(what, 1 - (end - now) / seconds)
            frame = frames[len(samples.latency_ms) % len(frames)]
            start = time.perf_counter()
            inspection = inspector.inspect(frame)
            samples.latency_ms.append((time.perf_counter() - start) * 1e3)
            samples.stage_ms.append(inspection.stage_ms)
        samples.wall_s = time.perf_counter() - begin
        if why_unsteady(samples.latency_ms) is None:
            break
    return samples


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """95 % confidence interval of a median from order statistics, without assuming a distribution.

    Returns:
        Lower and upper end, or None for fewer than six values, which cannot give one.
    """
    count = len(values)
    if count < 6:
        return None
    reach = 1.96 * math.sqrt(count) / 2
    ordered = sorted(values)
    low = max(math.floor(count / 2 - reach), 0)
    high = min(math.ceil(count / 2 + reach), count - 1)
    return ordered[low], ordered[high]


def why_unsteady(latency_ms: Sequence[float]) -> str | None:
    """Why these latencies, in order, cannot be quoted as one figure; None when they can."""
    interval = median_interval(latency_ms)
    if interval is None:
        return f"only {len(latency_ms)} frames were measured"
    median = float(np.median(latency_ms))
    reach = max(interval[1] - median, median - interval[0]) / median
    if reach > STEADY:
        return f"the median is known to ±{reach:.1%} only"
    middle = len(latency_ms) // 2
    drift = float(np.median(latency_ms[middle:])) / float(np.median(latency_ms[:middle])) - 1
    if abs(drift) > 2 * STEADY:
        return (
            f"the second half of the run was {abs(drift):.0%} {'slower' if drift > 0 else 'faster'}"
        )
    return None


def summarise(
    bundle: Bundle, precision: str, backend: str, samples: Samples, setup_s: float, peak: float
) -> dict[str, Any]:
    """One row of the result.

    Args:
        bundle: what was run.
        precision: precision of the graphs.
        backend: what ran it, in words.
        samples: the measured run.
        setup_s: seconds to open the inspector.
        peak: GFLOP/s of this machine.
    """
    model = bundle.model
    gflop = stage_gflop(bundle)
    latency = np.asarray(samples.latency_ms)
    stage_ms = {stage: np.asarray([s[stage] for s in samples.stage_ms]) for stage in STAGES}
    interval = median_interval(samples.latency_ms)
    fps = len(latency) / samples.wall_s
    total_gflop = sum(gflop.values()) if gflop else None
    return {
        "method": "norm-guided" if model.fusion == "norm_guided" else "DiffusionAD",
        "lambdas": list(model.lambdas),
        "size": model.size,
        "image_size": model.image_size,
        "batch": 1,
        "precision": precision,
        "engine": "ONNX Runtime CPU",
        "threads": usable_cores(),
        "backend": backend,
        "frames": len(latency),
        "warm_up_frames": samples.warm_up_frames,
        "setup_s": round(setup_s, 3),
        "wall_s": round(samples.wall_s, 3),
        "fps": round(fps, 3),
        "latency_ms": _percentiles(latency),
        "median_interval_ms": [round(v, 4) for v in interval] if interval else None,
        "unstable": why_unsteady(samples.latency_ms),
        "overhead_share": round(1 - float(latency.sum()) / 1e3 / samples.wall_s, 5),
        "stages": {
            stage: {
                **_percentiles(values),
                "share": round(float(values.sum() / latency.sum()), 4),
                "gflop": _rounded(gflop.get(stage)),
                "gflop_per_s": _rounded(_rate(gflop.get(stage), values)),
            }
            for stage, values in stage_ms.items()
        },
        "gflop": _rounded(total_gflop),
        "roof_fps": _rounded(peak / total_gflop if total_gflop else None),
        "share_of_roof": _rounded(fps * total_gflop / peak if total_gflop else None),
    }


def stage_gflop(bundle: Bundle) -> dict[str, float]:
    """GFLOP of one frame in each network, or nothing where the graphs hide their shapes."""
    levels = len(bundle.model.lambdas)
    segmented = 1 if bundle.model.fusion == "norm_guided" else levels
    try:
        return {
            "denoise": count_gflop(bundle.path / DENOISER, levels),
            "segment": count_gflop(bundle.path / SEGMENTER, segmented),
        }
    except ValueError:
        return {}


def peak_gflops(threads: int, seconds: float) -> float:
    """Best rate of a large float32 matrix product in the runtime that also runs the networks."""
    from onnx import TensorProto, helper, numpy_helper, save

    side = GEMM_SIDE
    weights = np.random.default_rng(0).random((side, side), dtype=np.float32)
    left = np.random.default_rng(1).random((side, side), dtype=np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["left", "weights"], ["product"])],
        "peak",
        [helper.make_tensor_value_info("left", TensorProto.FLOAT, [side, side])],
        [helper.make_tensor_value_info("product", TensorProto.FLOAT, [side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.onnx"
        save(model, path)
        engine = OnnxEngine(path, threads=threads)
    best_s = math.inf
    end = time.perf_counter() + seconds
    engine.run({"left": left})
    while time.perf_counter() < end or best_s == math.inf:
        start = time.perf_counter()
        engine.run({"left": left})
        best_s = min(best_s, time.perf_counter() - start)
    return 2 * side**3 / 1e9 / best_s


def _percentiles(values: NDArray[np.float64]) -> dict[str, float]:
    p50, p90, p95, p99 = np.percentile(values, (50, 90, 95, 99))
    return {
        "p50": round(float(p50), 4),
        "p90": round(float(p90), 4),
        "p95": round(float(p95), 4),
        "p99": round(float(p99), 4),
    }


def _rate(gflop: float | None, values_ms: NDArray[np.float64]) -> float | None:
    return gflop * 1e3 / float(np.median(values_ms)) if gflop else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")
