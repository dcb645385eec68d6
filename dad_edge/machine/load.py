"""Other work on the machine while something was measured."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from dad_edge.machine.environment import usable_cores

BUSY_SHARE = 0.05
"""A machine is called loaded when others use more than this share of its cores."""
STOLEN_SHARE = 0.01
"""... or when its host withholds more than this share of their time."""


@dataclass(frozen=True, slots=True)
class _Reading:
    wall_s: float
    own_s: float
    busy_s: float
    stolen_s: float


@dataclass(frozen=True, slots=True)
class Load:
    """What else ran during a measurement."""

    other_cores: float | None
    """Cores that other processes kept busy on average; None where /proc/stat is not readable."""
    stolen_share: float | None
    """Share of CPU time that the host of a virtual machine gave to others."""
    load_average: tuple[float, float, float]
    """Over 1, 5 and 15 minutes, when the measurement began."""
    cores: int
    """Cores that this process may use."""

    @property
    def loaded(self) -> bool:
        """Whether the figures were taken beside other work."""
        return (self.other_cores or 0) > BUSY_SHARE * self.cores or (
            self.stolen_share or 0
        ) > STOLEN_SHARE

    def to_mapping(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "load_average": list(self.load_average), "loaded": self.loaded}


class LoadWatch:
    """Context manager around a measurement; `load` is there once it has ended."""

    load: Load

    def __init__(self, root: Path = Path("/")) -> None:
        """
        Args:
            root: where the file system starts.
        """
        self._stat = root / "proc/stat"

    def __enter__(self) -> LoadWatch:
        self._average = os.getloadavg()
        self._before = self._read()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        after, before = self._read(), self._before
        if after is None or before is None:
            self.load = Load(None, None, self._average, usable_cores())
            return
        wall_s = max(after.wall_s - before.wall_s, 1e-3)
        others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
        stolen_s = after.stolen_s - before.stolen_s
        self.load = Load(
            round(max(others_s, 0.0) / wall_s, 3),
            round(max(stolen_s, 0.0) / wall_s / (os.cpu_count() or 1), 4),
            self._average,
            usable_cores(),
        )

    def _read(self) -> _Reading | None:
        try:
            first = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()
            user, nice, system, _, _, irq, softirq, stolen = (float(v) for v in first[1:9])
        except (OSError, ValueError):
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        busy = user + nice + system + irq + softirq
        own = os.times()
        return _Reading(time.perf_counter(), sum(own[:4]), busy / ticks, stolen / ticks)
