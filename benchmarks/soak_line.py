"""The line of `soak`: `dad-edge` with an engine that fails at its next frame when SIGUSR1 comes."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from typing import Any

from dad_edge.__main__ import main
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.seams import Inspection

_to_fail: list[int] = []
_inspect_batch = HostInspector.inspect_batch


def inspect_batch(self: HostInspector, frames: Sequence[Any]) -> list[Inspection]:
    if _to_fail:
        _to_fail.clear()
        raise RuntimeError("the device is lost (a fault of the soak)")
    return _inspect_batch(self, frames)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, lambda number, _: _to_fail.append(number))
    HostInspector.inspect_batch = inspect_batch  # type: ignore[method-assign]
    main()
