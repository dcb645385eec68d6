"""Ctrl-C, SIGTERM and a closed terminal as a request that long work checks between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, NoReturn


def unwind_on_signals() -> None:
    """Outside of a `StopRequest`, let SIGTERM and SIGHUP end the program as Ctrl-C does.

    Whatever is under way cleans up; the exit code is 128 plus the signal's number.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        if _is_heeded(number):
            signal.signal(number, _unwind)


def _unwind(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def _is_heeded(number: signal.Signals) -> bool:
    """Whether a signal ends this program; under `nohup` SIGHUP is ignored and stays so."""
    return number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN


class StopRequest:
    """While active, a signal is only noted; Ctrl-C after another signal interrupts at once.

    A closed terminal sends SIGHUP, and its shell often sends it once more, as service managers may
    do after SIGTERM. Only Ctrl-C surely comes from a person who does not want to wait.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.signal_number = 0
        self._earlier: dict[signal.Signals, Any] = {}

    @property
    def requested(self) -> bool:
        return self.signal_number != 0

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is threading.main_thread():
            heeded = filter(_is_heeded, self.SIGNALS)
            self._earlier = {number: signal.signal(number, self._note) for number in heeded}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._earlier.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.signal_number = self.signal_number or number
