"""What the device can do at best, measured in the same run, and the roof that follows from it."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dad_edge.bench.case import CasePrecision, Device
from dad_edge.bench.measure import rounded
from dad_edge.environment import usable_cores
from dad_edge.errors import DadEdgeError, DeviceError, require
from dad_edge.runtime.engine_onnx import OnnxEngine

GEMM_SIDE = {"cpu": 1024, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """Limits of one configuration on one device."""

    fps: float
    """Frames/s that no program with this arithmetic and traffic can pass."""
    arithmetic_fps: float
    memory_fps: float
    """If nothing stays in a cache between two layers; a cache can lift this one."""


def roof_of(
    gflop: float, gbyte: float, frames: int, gflop_per_s: float, gbyte_per_s: float
) -> Roof:
    """The roof of one call.

    Args:
        gflop: arithmetic of the call.
        gbyte: what it moves if nothing stays in a cache between two layers.
        frames: frames of the call.
        gflop_per_s: peak of a matrix product.
        gbyte_per_s: peak of a copy, reads and writes together.
    """
    arithmetic, memory = frames * gflop_per_s / gflop, frames * gbyte_per_s / gbyte
    return Roof(fps=min(arithmetic, memory), arithmetic_fps=arithmetic, memory_fps=memory)


class Peaks:
    """Peaks of the devices, measured when they are first asked for and once more at the end."""

    def __init__(self, seconds: float) -> None:
        """
        Args:
            seconds: of each measurement.
        """
        self._seconds = seconds
        self._gflop: dict[tuple[Device, CasePrecision], float | None] = {}
        self._gbyte: dict[Device, float | None] = {}

    def gflop_per_s(self, device: Device, precision: CasePrecision) -> float | None:
        """Of a square matrix product; None where nothing here can measure it."""
        key = (device, precision)
        if key not in self._gflop:
            self._gflop[key] = _or_none(lambda: gemm_gflops(device, precision, self._seconds))
        return self._gflop[key]

    def gbyte_per_s(self, device: Device) -> float | None:
        """Of a large copy, reads and writes together; None where nothing here can measure it."""
        if device not in self._gbyte:
            self._gbyte[device] = _or_none(lambda: copy_gbytes(device, self._seconds))
        return self._gbyte[device]

    def measure_again(self) -> None:
        """Take the better of the first and a second measurement: other work only lowers them."""
        for (device, precision), first in self._gflop.items():
            if first is not None:
                again = gemm_gflops(device, precision, self._seconds)
                self._gflop[device, precision] = max(first, again)
        for device, rate in self._gbyte.items():
            if rate is not None:
                self._gbyte[device] = max(rate, copy_gbytes(device, self._seconds))

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "gflop_per_s": {f"{d} {p}": rounded(v) for (d, p), v in self._gflop.items()},
            "gbyte_per_s": {d: rounded(v) for d, v in self._gbyte.items()},
            "measured_with": "best run of a square matrix product (CPU: ONNX Runtime, side "
            f"{GEMM_SIDE['cpu']}, all usable cores; CUDA: PyTorch, side {GEMM_SIDE['cuda']}) and "
            "of a copy far larger than the caches, at the beginning and at the end of the study",
        }


def _or_none(measure: Callable[[], float]) -> float | None:
    try:
        return measure()
    except (DadEdgeError, RuntimeError):
        return None  # rows without a peak have no roof, and say so


def gemm_gflops(device: Device, precision: CasePrecision, seconds: float) -> float:
    """Best rate of a square matrix product in GFLOP/s.

    Raises:
        MissingDependency: PyTorch, which measures all but FP32 and INT8 on a CPU, is not there.
        RuntimeError: PyTorch cannot do this on this device.
    """
    side = GEMM_SIDE[device]
    if device == "cpu" and precision in ("fp32", "int8"):
        call = _onnx_gemm(side, precision)
    else:
        call = _torch_gemm(side, device, precision)
    return 2 * side**3 / 1e9 / _best_s(call, seconds)


def _onnx_gemm(side: int, precision: CasePrecision) -> Callable[[], object]:
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    left: Any = rng.random((side, side), dtype=np.float32)
    weights: Any = rng.random((side, side), dtype=np.float32)
    op, kinds = "MatMul", (TensorProto.FLOAT, TensorProto.FLOAT)
    if precision == "int8":
        left, weights = (left * 255).astype(np.uint8), (weights * 127).astype(np.int8)
        op, kinds = "MatMulInteger", (TensorProto.UINT8, TensorProto.INT32)
    graph = helper.make_graph(
        [helper.make_node(op, ["left", "weights"], ["product"])],
        "peak",
        [helper.make_tensor_value_info("left", kinds[0], [side, side])],
        [helper.make_tensor_value_info("product", kinds[1], [side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.onnx"
        save(model, path)
        engine = OnnxEngine(path, threads=usable_cores())
    return lambda: engine.run({"left": left})


def _torch_on(device: Device) -> Any:
    """PyTorch, if it can use the device."""
    torch = require("torch", "train", "measure the peak of this device")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("PyTorch finds no CUDA device.", "run 'dad-edge doctor'")
    return torch


def _torch_gemm(side: int, device: Device, precision: CasePrecision) -> Callable[[], object]:
    torch = _torch_on(device)
    if precision == "int8":
        left = torch.randint(-127, 127, (side, side), dtype=torch.int8, device=device)
        right = left.t()

        def product() -> object:
            return torch._int_mm(left, right)
    else:
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        left = torch.rand(side, side, device=device, dtype=kind)

        def product() -> object:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            return left @ left

    def call() -> None:
        product()
        if device == "cuda":
            torch.cuda.synchronize()

    return call


def copy_gbytes(device: Device, seconds: float) -> float:
    """Best rate of a large copy in GB/s, reads and writes together.

    Raises:
        MissingDependency: PyTorch, which measures a GPU, is not installed.
        DeviceError: it finds no GPU.
    """
    size = COPY_BYTES[device]
    if device == "cuda":
        torch = _torch_on(device)
        source = torch.zeros(size, dtype=torch.uint8, device=device)
        target = torch.empty_like(source)

        def copy() -> None:
            target.copy_(source)
            torch.cuda.synchronize()

        return 2 * size / 1e9 / _best_s(copy, seconds)
    cores = usable_cores()
    share = size // cores
    parts = [(np.zeros(share, np.uint8), np.ones(share, np.uint8)) for _ in range(cores)]
    with ThreadPoolExecutor(cores) as pool:

        def copy_all() -> None:
            list(pool.map(lambda part: np.copyto(*part), parts))

        return 2 * cores * share / 1e9 / _best_s(copy_all, seconds)


def _best_s(call: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest call, after one that is not counted."""
    call()
    best_s = math.inf
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or best_s == math.inf:
        start = time.perf_counter()
        call()
        best_s = min(best_s, time.perf_counter() - start)
    return best_s
