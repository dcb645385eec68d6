"""One camera of a line: its frames go to the engine, the answers become judged frames."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError, DeviceError, UsageError
from dad_edge.line.config import CameraConfig, DriftConfig
from dad_edge.line.drift import Finding
from dad_edge.line.engines import EngineGroup
from dad_edge.line.intake import Answer, Intake, Waiting
from dad_edge.line.judge import Judge
from dad_edge.line.posted import Posted
from dad_edge.line.reader import Reader
from dad_edge.line.seams import CameraState, EventKind, Judged
from dad_edge.line.thresholds import BundleThresholds, ThresholdFile
from dad_edge.stream.frames import Frame, Source, Unreadable
from dad_edge.stream.results import Result
from dad_edge.stream.sources import POSTED

_RATE_S = 5.0
"""Frames a second are counted over so many seconds."""
_LATENCIES = 200
_MOST_TIMES = 4096


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
    """Hands the frames of a source to an engine and judges what it answers."""

    def __init__(
        self,
        name: str,
        config: CameraConfig,
        drift: DriftConfig,
        open_source: Callable[[], Source],
        place: Place,
        hooks: Hooks,
        posted: Posted | None = None,
    ) -> None:
        """
        Args:
            name: of the camera.
            config: its settings.
            drift: settings of the drift alarm.
            open_source: opens the source; called in the camera's thread.
            place: where it belongs.
            hooks: take what it has to say.
            posted: its source, if machines post its pictures.

        Raises:
            DataError: its ignore mask is no picture, or leaves nothing to inspect.
        """
        self.name = name
        self.reader = Reader(name, config.source, open_source, self)
        """Reads its source."""
        self._place = place
        self._hooks = hooks
        self._posted = posted
        self._judge = Judge(
            config, drift, place.bundle, place.file, place.calibrated, self._drifted
        )
        self._paused = False
        self._answered = 0
        self._unreadable = 0
        self._verdicts = {"good": 0, "defect": 0, "invalid": 0}
        self._latencies: deque[float] = deque(maxlen=_LATENCIES)
        self._times: deque[float] = deque(maxlen=_MOST_TIMES)
        self._latest: Judged | None = None
        self._last_frame: datetime | None = None
        self._changed = threading.Condition()

    def _drifted(self, message: str, finding: Finding) -> None:
        probability = float(f"{finding.probability:.3g}")
        self._hooks.happened("drift", self.name, f"{message}.", probability=probability)

    @property
    def finished(self) -> bool:
        """Whether the source has ended and every frame of it was answered."""
        return self.reader.ended and not self._place.intake.left(self.name, self._answered)

    def frame(self, frame: Frame, live: bool) -> bool:
        """Take a frame of the source; False if no more are wanted."""
        read_at = time.perf_counter()
        try:
            cut = self._judge.cut(frame)
        except DataError as error:
            self.missing(Unreadable(frame.name, frame.index, frame.time, error))
            return True
        self._last_frame = frame.time
        return self._place.intake.put(Waiting(self.name, cut, read_at, live))

    def missing(self, missing: Unreadable) -> None:
        """Take note of a picture that could not be read."""
        self._unreadable += 1
        self._hooks.skipped(self.name, missing)
        if self._posted is not None:
            self._posted.failed(missing)

    def happened(self, kind: EventKind, message: str, **details: Any) -> None:
        """Take note that the source came or went."""
        self._hooks.happened(kind, self.name, message, **details)

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
        if self._posted is not None:
            self._posted.answered(judged)

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

    def inspect(self, content: bytes, timeout_s: float) -> Judged:
        """Take a posted picture and wait for its verdict.

        Args:
            content: of a picture file, as `read_frame` takes it.
            timeout_s: longest wait.

        Raises:
            UsageError: the pictures of this camera are not posted.
            DataError: the picture cannot be read.
            DeviceError: the camera is paused, too many pictures wait, or no verdict came in time.
        """
        if self._posted is None:
            raise UsageError(
                f"pictures of camera {self.name} come from {self.reader.source}.",
                f"give a camera the source {POSTED} in line.toml, and name it with ?camera=NAME",
            )
        if self._paused:
            raise DeviceError(f"camera {self.name} is paused.", "resume it on the page")
        return self._posted.inspect(content, timeout_s)

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
            source=self.reader.source,
            bundle=place.bundle.path.name,
            class_name=place.bundle.manifest.class_name,
            engine=group.backend,
            online=self.reader.online,
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
            error=self.reader.error or group.error,
        )
