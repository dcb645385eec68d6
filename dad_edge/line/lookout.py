"""Looks from time to time whether servers answer again, while engines here inspect for them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

PAUSE_S = 30.0
"""Between two looks."""

_log = logging.getLogger(__name__)


class Lookout:
    """Asks in a thread of its own, so that nobody waits for the answer."""

    def __init__(self, probe: Callable[[], object] | None) -> None:
        """
        Args:
            probe: raises where there is no answer; None if there is nothing to look for.
        """
        self._probe = probe
        self._found = threading.Event()
        self._thread: threading.Thread | None = None
        self._next_at = 0.0

    def rest(self) -> None:
        """Forget what was found; the next look is after a pause."""
        self._found.clear()
        self._next_at = time.monotonic() + PAUSE_S

    def answers(self) -> bool:
        """Whether a look had an answer; begins one where it is time."""
        if self._probe is None or self._found.is_set():
            return self._found.is_set()
        resting = self._thread is None or not self._thread.is_alive()
        if resting and (now := time.monotonic()) >= self._next_at:
            self._next_at = now + PAUSE_S
            self._thread = threading.Thread(target=self._look, name="line lookout", daemon=True)
            self._thread.start()
        return False

    def _look(self) -> None:
        assert self._probe is not None
        try:
            self._probe()
        except Exception as error:
            _log.debug("no answer yet: %s", error)
        else:
            self._found.set()
