from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")

from benchmarks.drift import alarms, calibrated, dimmed, drawn_from, too_many


def draw(rng: np.random.Generator, count: int) -> np.ndarray:
    return rng.beta(2, 15, count)


def test_no_change_is_quiet_and_a_large_one_is_not() -> None:
    rng = np.random.default_rng(0)
    quiet = alarms(draw, 100, 0.001, 0.0, 3, rng)
    assert quiet["windows"] == 30
    assert quiet["alarms"] <= 1
    loud = alarms(draw, 100, 0.001, 0.1, 3, rng)
    assert loud["share"] > 0.9


def test_the_threshold_is_that_of_calibrate() -> None:
    scores = np.linspace(0, 1, 201)
    thresholds = calibrated(scores)
    assert thresholds.image_threshold == pytest.approx(0.995)
    assert thresholds.normal_images == 201


@pytest.mark.parametrize(
    ("alarms_raised", "expected"), [(0, False), (50, False), (71, False), (72, True)]
)
def test_more_alarms_than_chance_explains_are_too_many(alarms_raised: int, expected: bool) -> None:
    assert too_many({"stated": 0.01, "windows": 5000, "alarms": alarms_raised}) is expected


def test_scores_that_were_measured_are_drawn_again() -> None:
    drawn = drawn_from(np.array([0.1, 0.3]))(np.random.default_rng(0), 1000)
    assert drawn.mean() == pytest.approx(0.2, abs=0.02)


def test_light_is_dimmed() -> None:
    image = np.full((2, 2, 3), 200, np.uint8)
    assert (dimmed(0.9)(image) == 180).all()
