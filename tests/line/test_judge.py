from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from stand_in_engines import inspection_of

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError
from dad_edge.image.scene import Scene
from dad_edge.line.config import CameraConfig, DriftConfig
from dad_edge.line.drift import Finding
from dad_edge.line.intake import Answer, Waiting
from dad_edge.line.judge import Judge
from dad_edge.line.thresholds import ThresholdBook
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame

Made = Callable[..., Judge]


def answer(score: float = 0.1, *, reason: str = "", **changes: Any) -> Answer:
    image = np.full((4, 4, 3), 50, np.uint8)
    frame = Frame(image, "1.png", 1, datetime.now(timezone.utc))
    now = time.perf_counter()
    inspection: Inspection | None = replace(inspection_of(image), score=score, **changes)
    if reason:
        inspection = None
    return Answer(Waiting("a", frame, now, False), inspection, reason, "it", None, now, now)


@pytest.fixture
def judge(tiny_bundle: Bundle, tmp_path: Path) -> Made:
    def make(
        scene: Scene | None = None,
        drift: DriftConfig | None = None,
        tell: Callable[[str, Finding], None] = lambda message, finding: None,
        **settings: Any,
    ) -> Judge:
        assert tiny_bundle.thresholds is not None
        bundle = replace(
            tiny_bundle, thresholds=replace(tiny_bundle.thresholds, scene=scene, normal_images=400)
        )
        book = ThresholdBook(tmp_path)
        camera = CameraConfig(source="demo://", **settings)
        file = book.of_camera("a", camera, bundle)
        drift = drift or DriftConfig(false_alarms=0)
        return Judge(camera, drift, bundle, file, book.of_bundle(bundle), tell)

    return make


@pytest.mark.parametrize(("score", "verdict"), [(0.5, "good"), (0.51, "defect")])
def test_a_score_above_the_threshold_is_a_defect(judge: Made, score: float, verdict: str) -> None:
    ruling = judge().rule(answer(score))
    assert ruling.inspection.verdict == verdict
    assert (ruling.rejected, ruling.threshold) == (verdict == "defect", 0.5)
    assert ruling.inspection.reason is None


def test_a_new_threshold_holds_for_the_next_frame(judge: Made) -> None:
    one = judge()
    one.file.write(0.7)
    ruling = one.rule(answer(0.6))
    assert (ruling.inspection.verdict, ruling.threshold) == ("good", 0.7)


@pytest.mark.parametrize("uninspected", ["reject", "pass"])
def test_a_frame_that_no_engine_inspected_is_invalid(judge: Made, uninspected: str) -> None:
    ruling = judge(uninspected=uninspected).rule(answer(reason="the GPU was lost"))
    assert (ruling.inspection.verdict, ruling.inspection.reason) == ("invalid", "the GPU was lost")
    assert ruling.rejected is (uninspected == "reject")
    assert math.isnan(ruling.inspection.score)
    assert ruling.inspection.score_map.shape == ruling.inspection.heat.shape == (32, 32)


def test_a_score_that_is_no_number_is_invalid_and_rejected(judge: Made) -> None:
    ruling = judge().rule(answer(math.nan))
    assert ruling.inspection.verdict == "invalid"
    assert ruling.inspection.reason == "the score is not a number"
    assert ruling.rejected


@pytest.mark.parametrize("score", [0.1, 0.9])
def test_without_a_part_in_view_a_frame_is_invalid_and_nothing_is_rejected(
    judge: Made, score: float
) -> None:
    one = judge(Scene(brightness=(0.4, 0.6), contrast=(0.0, 0.5)))
    dark = np.zeros((3, 8, 8), np.float32)
    ruling = one.rule(answer(score, image=dark))
    assert ruling.inspection.verdict == "invalid"
    assert "too dark" in str(ruling.inspection.reason)
    assert not ruling.rejected
    part = np.full((3, 8, 8), 0.5, np.float32)
    assert one.rule(answer(0.1, image=part)).inspection.verdict == "good"


def test_k_of_n_comes_after_the_verdict_on_a_frame(judge: Made) -> None:
    one = judge(k_of_n=(2, 3))
    rulings = [one.rule(answer(score)) for score in (0.9, 0.1, 0.9)]
    assert [ruling.inspection.verdict for ruling in rulings] == ["defect", "good", "defect"]
    assert [ruling.rejected for ruling in rulings] == [False, False, True]


def test_what_a_camera_ignores_is_not_scored(judge: Made, tmp_path: Path) -> None:
    mask = np.zeros((32, 32), np.uint8)
    mask[8:16, 8:16] = 255
    cv2.imwrite(str(tmp_path / "mask.png"), mask)
    one = judge(ignore=str(tmp_path / "mask.png"))
    spot = np.zeros((32, 32), np.float32)
    spot[8:16, 8:16] = 1.0
    ruling = one.rule(answer(0.9, score_map=spot))
    assert (ruling.inspection.verdict, ruling.inspection.score) == ("good", 0.0)


def test_a_mask_that_cannot_be_read_is_refused(judge: Made, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        judge(ignore=str(tmp_path / "none.png"))


def test_the_region_is_cut_out(judge: Made) -> None:
    frame = answer().waiting.frame
    assert judge(region=(1, 1, 2, 3)).cut(frame).image.shape == (3, 2, 3)
    with pytest.raises(DataError, match="reaches beyond"):
        judge(region=(1, 1, 9, 9)).cut(frame)


def test_one_frame_of_every_part_that_was_accepted_watches_for_drift(judge: Made) -> None:
    pytest.importorskip("scipy")
    told: list[str] = []
    one = judge(
        drift=DriftConfig(false_alarms=0.001, parts=20),
        tell=lambda message, finding: told.append(message),
        k_of_n=(1, 2),
    )
    for _ in range(39):
        one.rule(answer(0.4))
        one.rule(answer(0.9))
        one.rule(answer(reason="failed"))
        one.rule(answer(math.nan))
        one.rule(answer(0.1))  # still rejected: one of two frames is a defect
    assert told == []
    for _ in range(40):
        one.rule(answer(0.4))
    assert len(told) == 1
    assert one.drift == told[0]
    one.threshold_changed()
    assert one.drift == told[0]
