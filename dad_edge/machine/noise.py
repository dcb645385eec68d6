"""Silence for C libraries that write to stderr by themselves, as those of PNG and JPEG do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_STDERR = 2


class Noise:
    """Takes stderr away from C libraries for as long as one of them decodes a picture.

    Only a program whose own messages go through another descriptor may do so, and it sets
    `can_be_dropped`. A library must not touch the stderr of its user.
    """

    def __init__(self) -> None:
        self.can_be_dropped = False
        self._lock = threading.Lock()
        self._decoding = 0
        self._kept = -1

    @contextmanager
    def dropped(self) -> Iterator[None]:
        """Lose what is written to stderr meanwhile, whichever threads decode."""
        if not self.can_be_dropped:
            yield
            return
        with self._lock:
            self._decoding += 1
            if self._decoding == 1:
                self._kept = os.dup(_STDERR)
                _point_at_nothing()
        try:
            yield
        finally:
            with self._lock:
                self._decoding -= 1
                if self._decoding == 0:
                    os.dup2(self._kept, _STDERR)
                    os.close(self._kept)


def _point_at_nothing() -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, _STDERR)
    os.close(nothing)


NOISE = Noise()
"""The one of this process."""
