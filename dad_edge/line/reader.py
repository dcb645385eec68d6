"""The thread that reads a source, and opens it again where it has no end of its own."""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol

from dad_edge.errors import DadEdgeError
from dad_edge.line.seams import EventKind
from dad_edge.stream.addresses import without_secrets
from dad_edge.stream.frames import Frame, Source, Unreadable
from dad_edge.stream.watch import Backoff, lasts

_log = logging.getLogger(__name__)


class Takes(Protocol):
    """Where a reader hands its frames; all calls come from its thread."""

    def frame(self, frame: Frame, live: bool) -> bool:
        """Take a frame; False if no more are wanted."""
        ...

    def missing(self, missing: Unreadable) -> None:
        """Take note of a picture that could not be read."""
        ...

    def happened(self, kind: EventKind, message: str, **details: Any) -> None:
        """Take note that the source came or went."""
        ...


class Reader:
    """Reads one source in a thread of its own."""

    def __init__(
        self, name: str, source: str | int, open_source: Callable[[], Source], takes: Takes
    ) -> None:
        """
        Args:
            name: of the camera, for the thread.
            source: as the user named it.
            open_source: opens it; called in the thread.
            takes: where frames go.
        """
        self.source = without_secrets(str(source))
        """Its name, without secrets."""
        self.online = False
        """Whether frames come."""
        self.error = ""
        """Why none come; empty if they do, or if the source has ended."""
        self.ended = False
        """Whether the source has ended for good."""
        self._name = name
        self._open_source = open_source
        self._takes = takes
        self._lasts = lasts(source)
        self._told_offline = False
        self._backoff = Backoff()
        self._positions = itertools.count()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def request_stop(self) -> None:
        """Read no more."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the thread; one that hangs in a driver is left alone."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            error = self._read_until_it_ends()
            if self._stop.is_set():
                break
            self._went_offline(error)
            if not self._lasts:
                break
            self._stop.wait(self._backoff.next_s())
        self.ended = True

    def _read_until_it_ends(self) -> str:
        """Read the source; why it broke off, or nothing."""
        try:
            source = self._open_source()
            self.source = source.name
            try:
                if source.waits:
                    self._went_online()
                self._read_all(source)
            finally:
                source.frames.close()
        except DadEdgeError as error:
            return f"{error.message} next: {error.next_step}"
        except Exception as error:  # of a driver or a library; other cameras go on
            _log.exception("camera %s", self._name)
            return str(error) or type(error).__name__
        return ""

    def _read_all(self, source: Source) -> None:
        for given in source.frames:
            if self._stop.is_set():
                return
            # Positions go on: a frame of a later opening is no frame of the first one.
            item = replace(given, index=next(self._positions))
            if isinstance(item, Unreadable):
                self._takes.missing(item)
                continue
            self._went_online()
            if not self._takes.frame(item, source.live):
                return

    def _went_online(self) -> None:
        """Note that there is a frame."""
        if not self.online:
            self.online, self.error, self._told_offline = True, "", False
            self._backoff.reset()
            self._takes.happened("online", f"{self.source} is read.")

    def _went_offline(self, error: str) -> None:
        """Note that the source ended; tries that fail again change the error only."""
        self.online, self.error = False, error
        if not self._told_offline:
            self._told_offline = True
            message = error or f"{self.source} has ended."
            self._takes.happened("offline", message, ended=not self._lasts)
