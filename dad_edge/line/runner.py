"""A line at work: its cameras, engines and sinks from start to end, and what may be done to it."""

from __future__ import annotations

import itertools
import logging
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Protocol

from dad_edge.errors import DeviceError, UsageError
from dad_edge.line.assembly import OpenSource, assemble
from dad_edge.line.camera import Camera
from dad_edge.line.config import LineConfig
from dad_edge.line.engines import EngineGroup
from dad_edge.line.seams import WHOLE_LINE, CameraState, Event, EventKind, Judged, SinkState
from dad_edge.line.thresholds import ThresholdBook, check_threshold
from dad_edge.machine.signals import StopRequest
from dad_edge.service.notify import Notifier
from dad_edge.stream.frames import Unreadable, now
from dad_edge.stream.sources import POSTED, open_source
from dad_edge.version import __version__

EVENTS_KEPT = 500
_POLL_S = 0.1
_LOOK_S = 0.5
"""Thresholds and the clock are looked at this often."""
_CLOCK_JUMP_S = 2.0
_READERS_S = 0.1
"""What readers get to end; one that waits for a picture is left alone."""

_log = logging.getLogger(__name__)


class Outlets(Protocol):
    """All sinks of a line behind their queues; nothing here waits for one of them."""

    def write(self, judged: Judged) -> None:
        """Hand over a judged frame."""
        ...

    def skip(self, camera: str, missing: Unreadable) -> None:
        """Hand over that a picture could not be read."""
        ...

    def event(self, event: Event) -> None:
        """Hand over an event."""
        ...

    def states(self) -> Sequence[SinkState]:
        """How they do."""
        ...

    def close(self) -> None:
        """Write what waits, and end."""
        ...


@dataclass(frozen=True, slots=True)
class LineSummary:
    """What a line did."""

    run: str
    seconds: float
    """From the first camera's start to the end."""
    cameras: Mapping[str, CameraState]
    errors: Mapping[str, str]
    """Cameras whose source broke off, and why."""


class Line:
    """A running line; what `LineControl` promises, for the page and the machine interface."""

    def __init__(self, config: LineConfig, opened: OpenSource = open_source) -> None:
        """
        Args:
            config: of the line.
            opened: opens a source.

        Raises:
            UsageError, DataError, ModelError, DeviceError: a bundle, engine, mask or threshold
                cannot be used.
        """
        self._config = config
        self._run = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%S}{secrets.token_hex(2)}"
        self._numbers = itertools.count(1)
        self._publishing = threading.Lock()
        self._outlets: Outlets | None = None
        self._events: deque[Event] = deque(maxlen=EVENTS_KEPT)
        self._book = ThresholdBook(config.folder_path)
        self._cameras: dict[str, Camera]
        self._groups: list[EngineGroup]
        self._cameras, self._groups = assemble(config, self._book, self, opened)
        self._stopped = threading.Event()
        self._notifier = Notifier()
        self._keeper = threading.Thread(target=self._keep, name="line keeper", daemon=True)

    # What the page may see and do.

    @property
    def name(self) -> str:
        return self._config.name

    @property
    def run(self) -> str:
        return self._run

    def cameras(self) -> Sequence[CameraState]:
        return [camera.state() for camera in self._cameras.values()]

    def sinks(self) -> Sequence[SinkState]:
        return self._outlets.states() if self._outlets is not None else ()

    def events(self) -> Sequence[Event]:
        return list(self._events)

    def latest(self, camera: str) -> Judged | None:
        found = self._cameras.get(camera)
        return found.latest if found is not None else None

    def next(self, camera: str, after: str, timeout_s: float) -> Judged | None:
        found = self._cameras.get(camera)
        return found.next(after, timeout_s) if found is not None else None

    def set_threshold(self, camera: str, value: float) -> float:
        file = self._camera(camera).file
        engine = self._camera(camera).engine
        before = file.image_threshold(engine)
        file.write(check_threshold(value))
        sharing = [each for each in self._cameras.values() if each.file is file]
        for each in sharing:
            each.threshold_changed()
        names = [each.name for each in sharing]
        self.happened(
            "threshold",
            camera,
            f"threshold of {', '.join(names)}: {value:.9g} instead of {before:.9g}.",
            before=before,
            after=value,
            cameras=names,
        )
        return before

    def pause(self, camera: str, paused: bool) -> None:
        self._camera(camera).pause(paused)

    def inspect(self, camera: str, content: bytes, timeout_s: float) -> Judged:
        if not camera:
            posted = [name for name, each in self._config.cameras.items() if each.is_posted]
            if len(posted) != 1:
                raise UsageError(
                    f"pictures can be posted to {len(posted)} cameras of this line.",
                    f"name one with ?camera=NAME: {', '.join(posted)}"
                    if posted
                    else f"give a camera the source {POSTED} in line.toml",
                )
            [camera] = posted
        return self._camera(camera).inspect(content, timeout_s)

    def _camera(self, name: str) -> Camera:
        if name not in self._cameras:
            raise UsageError(
                f"there is no camera {name!r}.", f"name one of: {', '.join(self._cameras)}"
            )
        return self._cameras[name]

    # What cameras tell their line.

    def judged(self, make: Callable[[str], Judged]) -> Judged:
        """Give a frame its number and hand it to the sinks, in the order of the numbers."""
        with self._publishing:
            judged = make(f"{self._run}-{next(self._numbers):09d}")
            if self._outlets is not None:
                self._outlets.write(judged)
        return judged

    def skipped(self, camera: str, missing: Unreadable) -> None:
        """Hand on that a picture could not be read, and say it of the first ones."""
        _log.warning("%s: %s", camera, missing.error.message)
        if self._outlets is not None:
            self._outlets.skip(camera, missing)

    def happened(self, kind: EventKind, camera: str, message: str, **details: Any) -> None:
        """Hand on an event."""
        self.take_event(Event(kind, camera, now(), message, details))

    @property
    def alive(self) -> bool:
        """Whether it goes on; if not, only a new process helps."""
        return self._keeper.is_alive() and all(group.alive for group in self._groups)

    def take_event(self, event: Event) -> None:
        """Keep an event, log it and hand it to the sinks; those of the sinks come here too."""
        self._events.append(event)
        _log.info("%s: %s", event.camera or self.name, event.message)
        if self._outlets is not None:
            self._outlets.event(event)

    # From start to end.

    def work(self, open_outlets: Callable[[Callable[[Event], None]], Outlets],
             stop: StopRequest) -> LineSummary:  # fmt: skip
        """Inspect until all sources have ended or a signal came; everything is flushed then.

        Args:
            open_outlets: opens the sinks, given what takes their events.
            stop: the signals.

        Raises:
            DeviceError: no engine of a bundle can be opened.
            StorageError: a sink cannot be opened.
        """
        self._outlets = open_outlets(self.take_event)
        started = time.monotonic()
        try:
            self._open_engines(stop)
            self.happened("started", WHOLE_LINE, f"{self.name} inspects.", **self._header())
            self._keeper.start()
            self._notifier.ready(f"{self.name}: {len(self._cameras)} cameras")
            self._notifier.keep_alive(lambda: self.alive)
            for camera in self._cameras.values():
                camera.reader.start()
            while not stop.requested and not all(c.finished for c in self._cameras.values()):
                time.sleep(_POLL_S)
        finally:
            self._end(stop)
        states = {state.name: state for state in self.cameras()}
        errors = {name: state.error for name, state in states.items() if state.error}
        return LineSummary(self.run, round(time.monotonic() - started, 3), states, errors)

    def _open_engines(self, stop: StopRequest) -> None:
        for group in self._groups:
            group.start()
        for group in self._groups:
            if not group.wait_until_open(lambda: stop.requested) and not stop.requested:
                raise DeviceError(
                    f"{group.error}.", "run 'dad-edge doctor', or name another engine"
                )

    def _header(self) -> dict[str, Any]:
        return {
            "version": __version__,
            "run": self.run,
            "cameras": {
                state.name: {"source": state.source, "bundle": state.bundle, "engine": state.engine}
                for state in self.cameras()
            },
        }

    def _end(self, stop: StopRequest) -> None:
        self._notifier.stopping()
        self._stopped.set()
        for camera in self._cameras.values():
            camera.reader.request_stop()
        for group in self._groups:
            group.request_stop()
        for group in self._groups:
            group.stop()
        readers_until = time.monotonic() + _READERS_S
        for camera in self._cameras.values():
            camera.reader.join(max(0.0, readers_until - time.monotonic()))
        if self._keeper.is_alive():
            self._keeper.join(_READERS_S)
        why = "a signal came" if stop.requested else "all sources have ended"
        with suppress(Exception):
            self.happened("stopped", WHOLE_LINE, f"{self.name} stopped: {why}.")
        if self._outlets is not None:
            self._outlets.close()

    def _keep(self) -> None:
        """Keeper thread: files of thresholds and the clock."""
        offset = time.time() - time.monotonic()
        while not self._stopped.wait(_LOOK_S):
            try:
                self._look_at_thresholds()
                after = time.time() - time.monotonic()
                if abs(after - offset) > _CLOCK_JUMP_S:
                    self.happened(
                        "clock",
                        WHOLE_LINE,
                        f"the clock of this machine jumped by {after - offset:+.1f} s.",
                        seconds=round(after - offset, 3),
                    )
                offset = after
            except Exception:  # a mistake of this program must not end the watch
                _log.exception("the keeper of the line goes on after an error")

    def _look_at_thresholds(self) -> None:
        changed, errors = self._book.reload()
        for file in changed:
            for camera in self._cameras.values():
                if camera.file is file:
                    camera.threshold_changed()
                    value = file.image_threshold(camera.engine)
                    self.happened(
                        "threshold",
                        camera.name,
                        f"{file.path.name} was changed; the threshold is {value:.9g}.",
                        after=value,
                    )
        for error in errors:
            self.happened("threshold", WHOLE_LINE, f"{error.message} {error.next_step}.")
