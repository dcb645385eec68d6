"""One camera of a line: its frames go to the engine, its answers become judged frames."""

from __future__ import annotations

import itertools
import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol

from dad_edge.bundle import Bundle
from dad_edge.errors import DadEdgeError, DataError
from dad_edge.line.config import CameraConfig, DriftConfig
from dad_edge.line.drift import Finding
from dad_edge.line.engines import EngineGroup
from dad_edge.line.intake import Answer, Intake, Waiting
from dad_edge.line.judge import Judge
from dad_edge.line.reopen import Backoff, lasts
from dad_edge.line.seams import CameraState, EventKind, Judged
from dad_edge.line.thresholds import BundleThresholds, ThresholdFile
from dad_edge.stream.addresses import without_secrets
from dad_edge.stream.frames import Source, Unreadable
from dad_edge.stream.results import Result

_RATE_S = 5.0
"""Frames a second are counted over so many seconds."""
_LATENCIES = 200
_MOST_TIMES = 4096

_log = logging.getLogger(__name__)


class Hooks(Protocol):
    """What a camera tells its line."""

    def judged(self, make: Callable[[str], Judged]) -> Judged:
        """Hand a frame to every sink, under the id that it gets."""
        ...

    def skipped(self, camera: str, missing: Unreadable) -> None:
        """Hand on that a picture could not be read."""
        ...

    def happened(self, kind: EventKind, camera: str, message: str, **details: Any) -> None:
        """Hand on an event."""
        ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a camera belongs in its line."""

    bundle: Bundle
    intake: Intake
    group: EngineGroup
    file: ThresholdFile
    """Where its threshold comes from."""
    calibrated: BundleThresholds
    """What was calibrated: scene and scores of good parts."""


class Camera:
    """Reads a source in a thread of its own and judges what its engine answers."""

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        drift: DriftConfig,
        open_source: Callable[[], Source],
        place: Place,
        hooks: Hooks,
    ) -> None:
        """
        Args:
            name: of the camera.
            config: its settings.
            drift: settings of the drift alarm.
            open_source: opens the source; called in the camera's thread.
            place: where it belongs.
            hooks: take what it has to say.

        Raises:
            DataError: its ignore mask is no picture, or leaves nothing to inspect.
        """
        self.name = name
        self.ended = False
        """Whether the source has ended for good."""
        self._place = place
        self._hooks = hooks
        self._open_source = open_source
        self._judge = Judge(
            config, drift, place.bundle, place.file, place.calibrated, self._drifted
        )
        self._source = without_secrets(str(config.source))
        self._lasts = lasts(config.source)
        self._backoff = Backoff()
        self._positions = itertools.count()
        self._online = False
        self._paused = False
        self._error = ""
        self._answered = 0
        self._unreadable = 0
        self._verdicts = {"good": 0, "defect": 0, "invalid": 0}
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)
        self._latest: Judged | None = None
        self._last_frame: datetime | None = None
        self._changed = threading.Condition()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"camera {name}", daemon=True)

    def _drifted(self, message: str, finding: Finding) -> None:
        probability = float(f"{finding.probability:.3g}")
        self._hooks.happened("drift", self.name, f"{message}.", probability=probability)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def request_stop(self) -> None:
        """Read no more."""
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the reader; one that hangs in a driver is left alone."""
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    @property
    def finished(self) -> bool:
        """Whether the source has ended and every frame of it was answered."""
        return self.ended and not self._place.intake.left(self.name, self._answered)

    def _run(self) -> None:
        """Reader thread: a source without an end of its own is opened again, for ever."""
        while not self._stop.is_set():
            error = self._read_source()
            if self._stop.is_set():
                break
            self._went_offline(error)
            if not self._lasts:
                break
            self._stop.wait(self._backoff.next_s())
        self.ended = True

    def _read_source(self) -> str:
        """Read until the source ends; why it broke off, or nothing."""
        try:
            source = self._open_source()
            self._source = source.name
            try:
                self._read_all(source)
            finally:
                source.frames.close()
        except DadEdgeError as error:
            return f"{error.message} next: {error.next_step}"
        except Exception as error:  # of a driver or a library; other cameras go on
            _log.exception("camera %s", self.name)
            return str(error) or type(error).__name__
        return ""

    def _read_all(self, source: Source) -> None:
        for given in source.frames:
            if self._stop.is_set():
                return
            # Positions go on: a frame of a later opening is no frame of the first one.
            item = replace(given, index=next(self._positions))
            if isinstance(item, Unreadable):
                self._skip(item)
                continue
            read_at = time.perf_counter()
            try:
                frame = self._judge.cut(item)
            except DataError as error:
                self._skip(Unreadable(item.name, item.index, item.time, error))
                continue
            self._went_online()
            self._last_frame = frame.time
            if not self._place.intake.put(Waiting(self.name, frame, read_at, source.live)):
                return

    def _went_online(self) -> None:
        """Note that there is a frame."""
        if not self._online:
            self._online, self._error = True, ""
            self._backoff.reset()
            self._hooks.happened("online", self.name, f"{self._source} is read.")

    def _went_offline(self, error: str) -> None:
        """Note that the source ended; tries that fail again are told of in the state only."""
        was_known = not self._online and bool(self._error)
        self._online, self._error = False, error
        if not was_known:
            self._hooks.happened(
                "offline", self.name, error or f"{self._source} has ended.", ended=not self._lasts
            )

    def _skip(self, missing: Unreadable) -> None:
        self._unreadable += 1
        self._hooks.skipped(self.name, missing)

    def judge(self, answer: Answer) -> None:
        """Turn the answer of the engine into a judged frame; called by one thread."""
        try:
            judged = self._judged(answer)
        finally:
            self._answered += 1
        with self._changed:
            self._verdicts[judged.verdict] += 1
            self._times.append(time.monotonic())
            self._latencies.append(judged.result.waited_ms + judged.result.latency_ms)
            self._latest = judged
            self._changed.notify_all()

    def _judged(self, answer: Answer) -> Judged:
        ruling = self._judge.rule(answer)
        inspection = ruling.inspection
        latency_ms = (answer.done_at - answer.in_hand_at) * 1e3
        waited_ms = (answer.in_hand_at - answer.waiting.read_at) * 1e3
        result = Result(answer.waiting.frame, inspection, latency_ms, waited_ms)

        def make(number: str) -> Judged:
            return Judged(
                id=number,
                camera=self.name,
                result=result,
                verdict=inspection.verdict,
                reason=inspection.reason,
                rejected=ruling.rejected,
                threshold=ruling.threshold,
                engine=answer.backend,
            )

        return self._hooks.judged(make)

    def threshold_changed(self) -> None:
        """Begin a new window of the drift alarm, since other parts are accepted now."""
        self._judge.threshold_changed()

    def pause(self, paused: bool) -> None:
        """Stop or go on inspecting."""
        if self._paused != paused:
            self._paused = paused
            self._place.intake.pause(self.name, paused)
            kind: EventKind = "paused" if paused else "resumed"
            self._hooks.happened(kind, self.name, f"{self.name} {kind}.")

    @property
    def file(self) -> ThresholdFile:
        """Where its threshold comes from."""
        return self._place.file

    @property
    def engine(self) -> str | None:
        """Name of the engine that inspects for it; None for the FP32 graphs."""
        return self._place.group.engine

    @property
    def latest(self) -> Judged | None:
        """The frame judged last."""
        return self._latest

    def next(self, after: str, timeout_s: float) -> Judged | None:
        """Wait for a frame other than that of id `after`."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._latest is not None and self._latest.id != after, timeout_s
            )
            latest = self._latest
        return latest if latest is not None and latest.id != after else None

    def state(self) -> CameraState:
        """How it does."""
        place, group = self._place, self._place.group
        threshold = place.file.image_threshold(group.engine)
        thresholds = place.calibrated.of_engine(group.engine)
        quantiles = thresholds.normal_score_quantiles.values() if thresholds else ()
        highest = min(1.0, max(2 * threshold, 1.5 * max(quantiles, default=0.0), 0.01))
        with self._changed:
            since = time.monotonic() - _RATE_S
            while self._times and self._times[0] < since:
                self._times.popleft()
            rate = len(self._times) / _RATE_S
            latency_ms = statistics.median(self._latencies) if self._latencies else 0.0
            verdicts = dict(self._verdicts)
        return CameraState(
            name=self.name,
            source=self._source,
            bundle=place.bundle.path.name,
            class_name=place.bundle.manifest.class_name,
            engine=group.backend,
            online=self._online,
            paused=self._paused,
            threshold=threshold,
            score_range=(0.0, highest),
            frames=self._answered,
            dropped=place.intake.dropped(self.name),
            unreadable=self._unreadable,
            verdicts=verdicts,
            fps=round(rate, 2),
            latency_ms=round(latency_ms, 3),
            last_frame=self._last_frame,
            drift=self._judge.drift,
            error=self._error or group.error,
        )
