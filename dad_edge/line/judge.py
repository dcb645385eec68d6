"""From the answer of an engine to what a camera says of a frame, and of the part that it shows."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError, MissingDependency
from dad_edge.image.framing import read_ignore
from dad_edge.line.config import CameraConfig, DriftConfig
from dad_edge.line.drift import DriftAlarm, DriftWatch, Finding
from dad_edge.line.intake import Answer
from dad_edge.line.rules import RejectRule, Seen
from dad_edge.line.thresholds import BundleThresholds, ThresholdFile
from dad_edge.line.view import View
from dad_edge.runtime.inspection import verdict_of
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Ruling:
    """What is said of one frame."""

    inspection: Inspection
    """With the verdict of this camera."""
    rejected: bool
    """Whether the part is to be rejected, after k of n and hysteresis."""
    threshold: float
    """That held for it."""


class Judge:
    """Judges the frames of one camera, one after the other."""

    def __init__(
        self,
        config: CameraConfig,
        drift: DriftConfig,
        bundle: Bundle,
        file: ThresholdFile,
        calibrated: BundleThresholds,
        on_drift: Callable[[str, Finding], None],
    ) -> None:
        """
        Args:
            config: of the camera.
            drift: settings of the drift alarm.
            bundle: that it inspects with.
            file: where its threshold comes from.
            calibrated: scene and scores of good parts.
            on_drift: told when the drift alarm is raised and when it ends.

        Raises:
            DataError: the ignore mask is no picture, or leaves nothing to inspect.
        """
        self.file = file
        self._size = bundle.model.image_size
        self._calibrated = calibrated
        ignore = read_ignore(Path(config.ignore)) if config.ignore else None
        self._view = View(bundle.model, config.region, ignore, bundle.ignore)
        self._rule = RejectRule(config.k_of_n, config.hysteresis, config.uninspected == "reject")
        self._frames_of_a_part = config.k_of_n[1]
        self._accepted = 0
        self._alarm = _drift_alarm(drift, on_drift)

    @property
    def drift(self) -> str:
        """What the drift alarm says; empty where it is silent."""
        return self._alarm.message if self._alarm else ""

    def cut(self, frame: Frame) -> Frame:
        """The part of a frame that is inspected.

        Raises:
            DataError: the region reaches beyond the frame.
        """
        return self._view.cut(frame)

    def rule(self, answer: Answer) -> Ruling:
        """What is to be said of a frame."""
        threshold = self.file.image_threshold(answer.engine)
        inspection, seen, reason = self._look(answer)
        verdict = verdict_of(inspection.score, threshold) if reason is None else "invalid"
        rejected = self._rule.next(seen, verdict, inspection.score, threshold)
        if verdict == "good" and not rejected:
            self._accept(inspection.score, threshold, answer.engine)
        return Ruling(replace(inspection, verdict=verdict, reason=reason), rejected, threshold)

    def _look(self, answer: Answer) -> tuple[Inspection, Seen, str | None]:
        """The inspection as this camera sees it, what it showed, and why it is invalid."""
        if answer.inspection is None:
            return self._nothing(), "uninspected", answer.reason
        try:
            inspection = self._view.masked(answer.inspection)
            scene = self._calibrated.scene
            reason = self._view.why_no_part(inspection, scene) or inspection.reason
        except DataError as error:
            return self._nothing(), "uninspected", error.message.rstrip(".")
        if not math.isfinite(inspection.score):
            return inspection, "uninspected", "the score is not a number"
        return inspection, "part" if reason is None else "no part", reason

    def _nothing(self) -> Inspection:
        """What is known of a frame that no engine inspected."""
        size = self._size
        empty = np.zeros((3, 0, 0), np.float32)
        return Inspection(
            score=math.nan,
            verdict="invalid",
            score_map=np.zeros((size, size), np.float32),
            heat=np.zeros((size, size), np.uint8),
            image=empty,
            restored=empty,
            stage_ms={},
        )

    def _accept(self, score: float, threshold: float, engine: str | None) -> None:
        """Show an accepted part to the drift alarm: one of the n frames that a part is seen in."""
        self._accepted += 1
        thresholds = self._calibrated.of_engine(engine)
        if self._alarm is None or thresholds is None:
            return
        if self._accepted % self._frames_of_a_part == 0:
            self._alarm.next(score, thresholds, threshold)

    def threshold_changed(self) -> None:
        """Begin a new window of the drift alarm, since other parts are accepted now."""
        if self._alarm is not None:
            self._alarm.watch.forget()


def _drift_alarm(drift: DriftConfig, tell: Callable[[str, Finding], None]) -> DriftAlarm | None:
    if not drift.false_alarms:
        return None
    try:
        return DriftAlarm(DriftWatch(drift.false_alarms, drift.parts), tell)
    except MissingDependency as error:
        _log.warning("nothing watches for drift: %s", error.message)
        return None
