"""Other work on the machine while something was measured."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dad_edge.machine.environment import usable_cores

BUSY_SHARE = 0.05
"""A machine is called loaded when other programs use more than this share of its cores."""
STOLEN_SHARE = 0.01
"""... or when its host withholds more than this share of their time."""


@dataclass(frozen=True, slots=True)
class _Reading:
    wall_s: float
    own_s: float
    busy_s: float
    stolen_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Load:
    """What else ran during a measurement."""

    other_cores: float | None
    """Cores that other processes kept busy on average; None where /proc/stat is not readable."""
    stolen_share: float | None
    """Share of CPU time that the host of a virtual machine gave to others."""
    load_average: tuple[float, float, float]
    """Load average over 1, 5 and 15 minutes when the measurement began."""
    cores: int
    """Cores that this process may use."""
    loaded: bool
    """Whether other work ran during the measurement."""


def own_seconds() -> float:
    """Processor time of this process and of its children that have ended."""
    return sum(os.times()[:4])


class LoadWatch:
    """Context manager around a measurement; `load` exists once the context has ended."""

    load: Load

    def __init__(
        self,
        root: Path = Path("/"),
        *,
        wall_s: Callable[[], float] = time.perf_counter,
        own_s: Callable[[], float] = own_seconds,
    ) -> None:
        """
        Args:
            root: where the file system starts.
            wall_s: clock of the wall.
            own_s: clock of this process's own work.
        """
        self._stat = root / "proc/stat"
        self._wall_s, self._own_s = wall_s, own_s

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
        self.load = self._between(self._before, self._read())

    def _between(self, before: _Reading | None, after: _Reading | None) -> Load:
        cores, other_cores, stolen_share = usable_cores(), None, None
        if after is not None and before is not None:
            wall_s = max(after.wall_s - before.wall_s, 1e-3)
            others_s = (after.busy_s - before.busy_s) - (after.own_s - before.own_s)
            stolen_s = max(after.stolen_s - before.stolen_s, 0.0)
            other_cores = round(max(others_s, 0.0) / wall_s, 3)
            stolen_share = round(stolen_s / wall_s / (os.cpu_count() or 1), 4)
        return Load(
            other_cores=other_cores,
            stolen_share=stolen_share,
            load_average=self._average,
            cores=cores,
            loaded=(other_cores or 0) > BUSY_SHARE * cores or (stolen_share or 0) > STOLEN_SHARE,
        )

    def _read(self) -> _Reading | None:
        try:
            first = self._stat.read_text(encoding="ascii").split("\n", 1)[0].split()
            user, nice, system, _, _, irq, softirq, stolen = (float(v) for v in first[1:9])
        except (OSError, ValueError):
            return None
        ticks = os.sysconf("SC_CLK_TCK")
        busy = user + nice + system + irq + softirq
        return _Reading(self._wall_s(), self._own_s(), busy / ticks, stolen / ticks)
