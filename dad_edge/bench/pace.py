"""How fast the machine itself is while something is measured.

Neighbours on the host of a virtual machine, a falling clock and other programs slow a machine down,
and the first two of them show in no load figure. A small matrix product between the measured calls
shows all three, and says nothing about what is measured.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np

from dad_edge.bench.gemm import onnx_gemm

SIDE = 512
PRODUCTS = 5
"""Their median is one reading; a few milliseconds in all."""
FULL_SPEED = 90
"""Percentile of all readings that is called the machine's full speed."""
SLOWED = 0.95
"""A machine below this share of its full speed is called slowed."""


class Pace:
    """Readings of the machine's speed, all cores together, over a whole study."""

    def __init__(self, product: Callable[[], object] | None = None) -> None:
        """
        Args:
            product: what is timed; by default a matrix product on all usable cores, made ready at
                the first reading.
        """
        self._product = product
        self._speeds: list[float] = []

    def read(self) -> float:
        """The speed now, in products per second."""
        if self._product is None:
            self._product = onnx_gemm(SIDE, "fp32")
            self._product()
        seconds = []
        for _ in range(PRODUCTS):
            start = time.perf_counter()
            self._product()
            seconds.append(time.perf_counter() - start)
        self._speeds.append(1 / float(np.median(seconds)))
        return self._speeds[-1]

    def share(self, speed: float) -> float:
        """A reading as a share of the machine's full speed, as far as it has shown itself."""
        return speed / float(np.percentile(self._speeds, FULL_SPEED))
