"""Speed of the networks in PyTorch, as training and the authors run them: the honest baseline.

    python benchmarks/torch_speed.py --device cuda

One frame a call, all its λ in one batch, weights random (they do not change the speed). Prints
JSON: a row for every size × precision × mode, beside the device's measured peak. A row that fails
costs itself, not the study.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from dad_edge.config import RECIPES, ModelConfig
from dad_edge.environment import describe
from dad_edge.model.detector import Detector

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
MODES = ("eager", "compile")
GEMM_SIDE = {"cuda": 8192, "cpu": 1024}
FEWEST_CALLS = 5


def wait(device: torch.device) -> None:
    """Let the device finish what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def time_calls(call: Callable[[], object], device: torch.device, seconds: float) -> list[float]:
    """Milliseconds of each call, after a warm-up of a fifth of the time."""
    samples: list[float] = []
    for limit, keep in ((seconds / 5, False), (seconds, True)):
        end = time.perf_counter() + limit
        count = 0
        while time.perf_counter() < end or count < FEWEST_CALLS:
            start = time.perf_counter()
            call()
            wait(device)
            count += 1
            if keep:
                samples.append((time.perf_counter() - start) * 1e3)
    return samples


def peak_tflops(device: torch.device, dtype: torch.dtype, seconds: float) -> float:
    """Best rate of a square matrix product in TFLOP/s."""
    side = GEMM_SIDE[device.type]
    left = torch.randn(side, side, device=device, dtype=dtype)
    best_ms = min(time_calls(lambda: left @ left, device, seconds))
    return 2 * side**3 / best_ms / 1e9


def frame_call(
    model: ModelConfig, device: torch.device, dtype: torch.dtype, mode: str
) -> tuple[Callable[[], object], float]:
    """One frame's inference with all λ in one batch, and its GFLOP."""
    detector = Detector(model).eval().to(device, dtype, memory_format=torch.channels_last)  # type: ignore[call-overload]
    levels, side = len(model.lambdas), model.image_size
    steps = torch.tensor(model.lambdas, device=device)
    image = torch.rand(levels, 3, side, side, device=device, dtype=dtype)
    x_t = torch.randn_like(image)

    def frame() -> torch.Tensor:
        _, restored = detector.estimate(x_t, steps)
        return torch.sigmoid(detector.segment(image, restored))

    with FlopCounterMode(display=False) as counter:
        frame()
    call = torch.compile(frame, mode="max-autotune") if mode == "compile" else frame
    return call, counter.get_total_flops() / 1e9


def measure(
    size: str, precision: str, mode: str, device: torch.device, seconds: float
) -> dict[str, Any]:
    """One row."""
    dtype = PRECISIONS[precision]
    model = RECIPES[size].model  # type: ignore[index]
    row: dict[str, Any] = {"size": size, "precision": precision, "mode": mode}
    try:
        with torch.inference_mode():
            call, gflop = frame_call(model, device, dtype, mode)
            samples = np.asarray(time_calls(call, device, seconds))
            peak = peak_tflops(device, dtype, seconds / 5)
    except Exception as error:  # the row says what went wrong, the study goes on
        return row | {"error": f"{type(error).__name__}: {str(error).splitlines()[0][:300]}"}
    fps = 1e3 / float(samples.mean())
    return row | {
        "calls": len(samples),
        "latency_ms": {f"p{q}": round(float(np.percentile(samples, q)), 4) for q in (50, 95, 99)},
        "fps": round(fps, 3),
        "gflop": round(gflop, 2),
        "peak_tflop_per_s": round(peak, 3),
        "share_of_roof": round(fps * gflop / 1e3 / peak, 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--sizes", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--precisions", nargs="+", default=list(PRECISIONS), choices=PRECISIONS)
    parser.add_argument("--modes", nargs="+", default=list(MODES), choices=MODES)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    options = parser.parse_args()
    if options.device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no CUDA device.\nnext: use --device cpu")
    device = torch.device(options.device)
    rows = []
    for size in options.sizes:
        for precision in options.precisions:
            for mode in options.modes:
                row = measure(size, precision, mode, device, options.seconds)
                print(row, file=sys.stderr, flush=True)
                rows.append(row)
    result = {"schema_version": 1, "study": "torch_speed", "device": options.device}
    print(json.dumps(result | {"environment": describe(), "rows": rows}, indent=2))


if __name__ == "__main__":
    main()
