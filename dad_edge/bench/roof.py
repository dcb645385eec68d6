"""What the device can do at best, measured in the same study, and the roof that follows from it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dad_edge.bench.case import CasePrecision, Device
from dad_edge.bench.gemm import onnx_gemm, torch_gemm, torch_on
from dad_edge.bench.measure import rounded
from dad_edge.bench.result import PeakRates
from dad_edge.errors import DadEdgeError
from dad_edge.machine.environment import usable_cores

GEMM_SIDE = {"cpu": 1024, "cuda": 8192}
COPY_BYTES = {"cpu": 1 << 27, "cuda": 1 << 30}


@dataclass(frozen=True, kw_only=True, slots=True)
class Roof:
    """Limits of one configuration on one device."""

    fps: float
    """Frames/s that no program with this arithmetic and traffic can exceed."""
    arithmetic_fps: float
    memory_fps: float
    """Limit of memory if nothing stays in a cache between two layers; a cache can lift it."""


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
        """Rate of a square matrix product; None where nothing here can measure it."""
        key = (device, precision)
        if key not in self._gflop:
            self._gflop[key] = _or_none(lambda: gemm_gflops(device, precision, self._seconds))
        return self._gflop[key]

    def gbyte_per_s(self, device: Device) -> float | None:
        """Rate of a large copy, reads and writes together; None where nothing can measure it."""
        if device not in self._gbyte:
            self._gbyte[device] = _or_none(lambda: copy_gbytes(device, self._seconds))
        return self._gbyte[device]

    def measure_again(self) -> None:
        """Measure again and keep the better result, because other work only lowers a peak."""
        for (device, precision), first in self._gflop.items():
            if first is not None:
                again = gemm_gflops(device, precision, self._seconds)
                self._gflop[device, precision] = max(first, again)
        for device, rate in self._gbyte.items():
            if rate is not None:
                self._gbyte[device] = max(rate, copy_gbytes(device, self._seconds))

    def rates(self) -> PeakRates:
        """The peaks that were measured so far."""
        return PeakRates(
            gflop_per_s={f"{d} {p}": rounded(v) for (d, p), v in self._gflop.items()},
            gbyte_per_s={d: rounded(v) for d, v in self._gbyte.items()},
            measured_with="best run of a square matrix product (CPU: ONNX Runtime, side "
            f"{GEMM_SIDE['cpu']}, all usable cores; CUDA: PyTorch, side {GEMM_SIDE['cuda']}) and "
            "of a copy far larger than the caches, at the beginning and at the end of the study",
        )


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
        call = onnx_gemm(side, precision)
    else:
        call = torch_gemm(side, device, precision)
    return 2 * side**3 / 1e9 / _best_s(call, seconds)


def copy_gbytes(device: Device, seconds: float) -> float:
    """Best rate of a large copy in GB/s, reads and writes together.

    Raises:
        MissingDependency: PyTorch, which measures a GPU, is not installed.
        DeviceError: it finds no GPU.
    """
    size = COPY_BYTES[device]
    if device == "cuda":
        torch = torch_on(device)
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
