"""Results of a line as its sinks take them."""

from __future__ import annotations

import math
from datetime import datetime, timedelta, timezone

import numpy as np

from dad_edge.errors import DataError
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame, Unreadable
from dad_edge.stream.results import Result

START = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone.utc)


def make_result(
    index: int = 0, *, score: float = 0.75, shape: tuple[int, int] = (48, 64), seconds: float = 0
) -> Result:
    score_map = np.zeros((32, 32), np.float32)
    score_map[8:16, 8:16] = score
    inspection = Inspection(
        score=score,
        verdict="defect" if math.isfinite(score) else "invalid",
        score_map=score_map,
        heat=np.rint(np.nan_to_num(score_map) * 255).astype(np.uint8),
        image=np.zeros((3, 32, 32), np.float32),
        restored=np.zeros((3, 32, 32), np.float32),
        stage_ms={"inject": 1.0, "denoise": 2.00049},
        reason=None if math.isfinite(score) else "the score is not a number",
    )
    image = np.full((*shape, 3), 90, np.uint8)
    frame = Frame(image, f"{index}.png", index, START + timedelta(seconds=seconds), "dent")
    return Result(frame, inspection, latency_ms=3.5, waited_ms=0.25)


def missing_picture() -> Unreadable:
    return Unreadable("7.png", 7, START, DataError("7.png is empty.", "remove it"))
