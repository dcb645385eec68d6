"""The fused CUDA runtime on PyTorch: latency, stages and throughput of untrained networks.

    python -m benchmarks.fused_speed --out benchmarks/results

Needs a GPU, PyTorch, `cuda-core` and `cuda-bindings`. A call of `inspect_batch` is timed from
pixels in host memory to results in host memory, `inspect_each` with two frames on their way; the
stages are the GPU's own times. Writes fused_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.naming import result_file
from dad_edge.bench.untrained import untrained_detector
from dad_edge.config import RECIPES, SizeName
from dad_edge.errors import DadEdgeError
from dad_edge.machine.environment import describe_machine
from dad_edge.runtime.gpu.engine_torch import TorchPrecision, fused_torch_inspector
from dad_edge.runtime.inspection import STAGES

SIDE, WARM_UP = 512, 5
CASES: tuple[tuple[SizeName, TorchPrecision, int, bool], ...] = (
    ("nano", "fp16", 1, False),
    ("nano", "fp16", 1, True),
    ("edge", "fp16", 1, False),
    ("paper", "fp16", 1, False),
    ("paper", "bf16", 1, False),
    ("paper", "fp32", 1, False),
    ("nano", "fp16", 8, False),
    ("paper", "fp16", 4, False),
)
"""Size, precision, frames inspected together, and whether image and restored image come back."""


def measure(
    size: SizeName, precision: TorchPrecision, batch: int, pictures: bool, seconds: float
) -> dict[str, Any]:
    """One row of the result."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8) for _ in range(8)]
    detector: Any = untrained_detector(RECIPES[size].model)
    inspector = fused_torch_inspector(detector, precision=precision, pictures=pictures)
    with inspector:
        for _ in range(WARM_UP):
            inspector.inspect_batch(frames[:batch])
        latency_ms, stages = [], []
        begun = time.perf_counter()
        while (start := time.perf_counter()) - begun < seconds:
            stages.append(inspector.inspect_batch(frames[:batch])[0].stage_ms)
            latency_ms.append((time.perf_counter() - start) * 1e3)
        count = max(10, round(seconds / statistics.median(latency_ms) * 1e3))
        start = time.perf_counter()
        found = sum(1 for _ in inspector.inspect_each(frames[n % 8] for n in range(count)))
        return {
            "size": size,
            "precision": precision,
            "pictures": pictures,
            "batch": batch,
            "calls": len(latency_ms),
            "p50_ms": round(statistics.median(latency_ms), 4),
            "p95_ms": round(float(np.percentile(latency_ms, 95)), 4),
            "fps_piped": round(found / (time.perf_counter() - start), 1),
            "stage_ms": {
                name: round(statistics.median(each[name] for each in stages), 4) for name in STAGES
            },
            "backend": inspector.backend,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    parser.add_argument("--seconds", type=float, default=1.0, help="of every measurement")
    options = parser.parse_args()
    try:
        rows = [measure(*case, options.seconds) for case in CASES]
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        sys.exit(error.exit_code)
    environment = describe_machine()
    result = {"study": "fused", "device": environment["device"]}
    result |= {"date": date.today().isoformat(), "rows": rows, "environment": environment}
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "fused", environment["device"])
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
