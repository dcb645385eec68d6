"""How fast the machine itself is while something is measured.

Neighbours on the host of a virtual machine, a falling clock and other programs slow a machine down,
and only the last of them shows in a load figure. Two small tasks between the measured calls show
all three, independent of what is measured. A matrix product shows how fast the cores compute, a
handover how fast one core reads what another has just written. A host may move virtual
cores apart, and whatever runs on several of them then waits for its data.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from dad_edge.bench.gemm import onnx_gemm

Reading = tuple[float, ...]
"""Speed of every task, in pieces a second."""

SETTLE_S = 0.01
"""Wait before a reading: threads of OpenMP go on spinning for some milliseconds after a call."""
SIDE = 512
PRODUCTS = 5
"""The median of these products counts, after one that does not count."""
HANDED_OVER = 1 << 18
"""FP32 values that every core writes and the next one reads: 1 MiB."""
CORES = 8
"""Cores that take part, spread over all usable ones; more would mostly wait for each other."""
HANDOVERS = 20
"""The median of these handovers counts, on the slowest core."""
FULL_SPEED = 90
"""This percentile of all readings is called the machine's full speed."""


@dataclass(frozen=True, slots=True)
class Task:
    """A small piece of work."""

    name: str
    slowed: float
    """A machine below this share of its full speed is called slowed."""
    run: Callable[[], float]
    """Does the task and returns the seconds it took."""


class Pace:
    """Readings of the machine's speed, all cores together, over a whole study."""

    def __init__(self, tasks: Sequence[Task] | None = None) -> None:
        """
        Args:
            tasks: what is timed; by default a product and a handover, made ready at the first
                reading.
        """
        self._tasks = tasks
        self._readings: list[Reading] = []
        self._full: Reading = ()

    def read(self) -> Reading:
        """The speed now."""
        if self._tasks is None:
            self._tasks = [Task("product", 0.93, product()), Task("handover", 0.85, handover())]
        time.sleep(SETTLE_S)
        self._readings.append(tuple(1 / task.run() for task in self._tasks))
        self._full = tuple(np.percentile(self._readings, FULL_SPEED, axis=0).tolist())
        return self._readings[-1]

    def shares(self, reading: Reading) -> dict[str, float]:
        """A reading as shares of the machine's full speed, as far as that is known yet."""
        return {
            task.name: speed / best
            for task, speed, best in zip(self._tasks or (), reading, self._full, strict=True)
        }

    def slowed(self, reading: Reading) -> bool:
        """Whether the machine was slowed in one of the tasks."""
        shares = self.shares(reading)
        return any(shares[task.name] < task.slowed for task in self._tasks or ())


def product() -> Callable[[], float]:
    """A matrix product on all usable cores."""
    call = onnx_gemm(SIDE, "fp32")

    def task() -> float:
        call()
        return float(np.median([_seconds(call) for _ in range(PRODUCTS)]))

    return task


def handover() -> Callable[[], float]:
    """Each core reads what its neighbour has just written; its own where there is only one."""
    usable = sorted(os.sched_getaffinity(0))
    cores = usable[:: -(-len(usable) // CORES)]
    written = [np.zeros(HANDED_OVER, np.float32) for _ in cores]
    read = [np.zeros(HANDED_OVER, np.float32) for _ in cores]
    together = threading.Barrier(len(cores))
    pool = ThreadPoolExecutor(len(cores), "handover")

    def of_core(place: int) -> float:
        os.sched_setaffinity(0, {cores[place]})  # affinity of this thread
        neighbour = written[place - 1]
        seconds = []
        for number in range(HANDOVERS):
            together.wait()
            written[place].fill(number)
            together.wait()
            seconds.append(_seconds(lambda: np.copyto(read[place], neighbour)))
        return float(np.median(seconds))

    return lambda: max(pool.map(of_core, range(len(cores))))


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
