"""What the fake CUDA driver is made of: guarded memory, streams that defer their work, events."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from dad_edge.machine.gpu import load_driver

real: Any = pytest.importorskip(
    "cuda.bindings.driver", reason="cuda-bindings is not installed (extra 'cuda')"
)
GUARD = 64
_GUARD_BYTE = 0xA5
Work = Callable[[], None]


@dataclass
class Memory:
    """One allocation with a guard behind it."""

    size: int
    store: Any = None

    def __post_init__(self) -> None:
        raw = np.full(self.size + GUARD + 256, _GUARD_BYTE, np.uint8)
        start = -raw.ctypes.data % 256
        self.store = raw[start : start + self.size + GUARD]

    @property
    def address(self) -> int:
        return int(self.store.ctypes.data)

    def check(self) -> None:
        assert (self.store[self.size :] == _GUARD_BYTE).all(), "written beyond an allocation"


@dataclass
class FakeStream:
    pending: list[Work] = field(default_factory=list)
    done: int = 0
    """Works taken so far; the n-th work has index n."""
    graph: list[Work] | None = None
    """Where work goes while the stream is captured."""


@dataclass
class FakeEvent:
    timing: bool
    stream: FakeStream | None = None
    index: int = 0
    happened_s: float | None = None


_converted: set[tuple[object, ...]] = set()


def convert_by_the_real_bindings(name: str, arguments: tuple[Any, ...]) -> None:
    """Let the real bindings convert arguments of these types; they raise a TypeError for others."""
    kinds = (name, *map(type, arguments))
    if kinds in _converted or load_driver() is not None:
        return
    with pytest.raises(RuntimeError):
        getattr(real, name)(*arguments)
    _converted.add(kinds)
