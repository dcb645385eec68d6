"""Judged frames of a line, drawn."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import numpy as np

from dad_edge.line.seams import Event, EventKind, Judged
from dad_edge.runtime.seams import Inspection, Verdict
from dad_edge.stream.frames import Frame
from dad_edge.stream.results import Result

BEGAN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
RUN = "20260102T030405ab12"


def judged(
    number: int = 1,
    *,
    camera: str = "left",
    score: float = 0.2,
    threshold: float = 0.5,
    verdict: Verdict | None = None,
    seconds: float | None = None,
    time: datetime | None = None,
    side: int = 48,
) -> Judged:
    """Frame `number` of a run, a second after the one before it."""
    rng = np.random.default_rng(number)
    at = time or BEGAN + timedelta(seconds=number if seconds is None else seconds)
    frame = Frame(
        rng.integers(0, 256, (side, 2 * side, 3), dtype=np.uint8), f"{number}.png", number, at
    )
    score_map = np.full((side, side), min(score, 1.0), np.float32)
    verdict = verdict or ("defect" if score > threshold else "good")
    empty = np.zeros((3, 0, 0), np.float32)
    heat = np.rint(255 * np.nan_to_num(score_map)).astype(np.uint8)
    inspection = Inspection(score, verdict, score_map, heat, empty, empty, {})
    return Judged(
        f"{RUN}-{number:09d}",
        camera,
        Result(frame, inspection, 12.5, 1.5),
        verdict,
        "no part in view" if verdict == "invalid" else None,
        verdict != "good",
        threshold,
        "onnxruntime fp32",
    )


def event(kind: EventKind = "offline", camera: str = "left") -> Event:
    """An event of a camera."""
    return Event(kind, camera, BEGAN, f"{camera} is {kind}.", {"attempt": 3})
