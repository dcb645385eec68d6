"""Judged frames and events as plain values, the same for every store, message and page."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

from dad_edge.line.seams import Event, Judged, LineSink
from dad_edge.scores import score_text
from dad_edge.stream.frames import Unreadable

SCHEMA = 1
"""Version of the records."""


class RecordSink(LineSink):
    """A sink of plain values, which needs no images, so that many fit into its queue."""

    @abstractmethod
    def take(self, record: dict[str, Any]) -> None:
        """Take a frame, an unreadable picture or an event.

        Raises:
            StorageError: it cannot be stored now; the call may be repeated.
        """

    def write(self, judged: Judged) -> None:
        self.take(record_of(judged))

    def skip(self, camera: str, missing: Unreadable) -> None:
        self.take(record_of_missing(camera, missing))

    def event(self, event: Event) -> None:
        self.take(record_of_event(event))


def record_of(judged: Judged) -> dict[str, Any]:
    """A judged frame as plain values for JSON; what is unknown is left out."""
    frame, inspection = judged.result.frame, judged.result.inspection
    record: dict[str, Any] = {
        "record": "frame",
        "id": judged.id,
        "camera": judged.camera,
        "index": frame.index,
        "name": frame.name,
        "time": frame.time.isoformat(timespec="milliseconds"),
        "score": rounded(inspection.score, judged.threshold),
        "threshold": judged.threshold,
        "verdict": judged.verdict,
        "rejected": judged.rejected,
        "engine": judged.engine,
        "latency_ms": round(judged.result.latency_ms, 3),
        "waited_ms": round(judged.result.waited_ms, 3),
    }
    if judged.reason is not None:
        record["reason"] = judged.reason
    if frame.kind is not None:
        record["kind"] = frame.kind
    return record


def record_of_missing(camera: str, missing: Unreadable) -> dict[str, Any]:
    """A picture that could not be read as plain values for JSON."""
    return {
        "record": "error",
        "camera": camera,
        "index": missing.index,
        "name": missing.name,
        "time": missing.time.isoformat(timespec="milliseconds"),
        "error": missing.error.message,
        "next": missing.error.next_step,
    }


def record_of_event(event: Event) -> dict[str, Any]:
    """An event as plain values for JSON."""
    return {
        "record": "event",
        "kind": event.kind,
        "camera": event.camera,
        "time": event.time.isoformat(timespec="milliseconds"),
        "message": event.message,
        **({"details": dict(event.details)} if event.details else {}),
    }


def rounded(score: float, threshold: float) -> float | None:
    """A score in so many digits that it lies on its own side of the threshold; None if not
    finite."""
    return float(score_text(score, threshold, 6)) if math.isfinite(score) else None
