from __future__ import annotations

import numpy as np
import pytest

from dad_edge.bundle import Thresholds
from dad_edge.errors import MissingDependency
from dad_edge.line.drift import FEWEST_PARTS, DriftAlarm, DriftWatch, Finding

pytest.importorskip("scipy")
QUANTILES = (0.0, 0.5, 0.9, 0.95, 0.99, 1.0)


def calibrated(scores: np.ndarray) -> Thresholds:
    return Thresholds(
        image_threshold=float(np.quantile(scores, 0.99)),
        pixel_threshold=0.5,
        target_false_reject_rate=0.01,
        smallest_supported_rate=1 / (len(scores) + 1),
        normal_images=len(scores),
        normal_score_quantiles={str(q): float(np.quantile(scores, q)) for q in QUANTILES},
    )


def window(watch: DriftWatch, scores: np.ndarray, thresholds: Thresholds) -> Finding | None:
    found = [watch.next(float(score), thresholds, 1.0) for score in scores]
    assert all(finding is None for finding in found[:-1])
    return found[-1]


@pytest.mark.parametrize("threshold_share", [0.6, 0.99])
def test_false_alarms_are_no_more_than_stated(threshold_share: float) -> None:
    rng = np.random.default_rng(7)
    rate, windows, alarms = 0.05, 400, 0
    for _ in range(windows):
        calibration = rng.beta(2, 15, 100)
        threshold = float(np.quantile(calibration, threshold_share))
        scores = rng.beta(2, 15, 400)
        accepted = scores[scores <= threshold][:100]
        assert len(accepted) == 100
        watch = DriftWatch(rate, 100)
        thresholds = calibrated(calibration)
        found = [watch.next(float(score), thresholds, threshold) for score in accepted][-1]
        assert found is not None
        alarms += found.alarm
    # 20 are expected at most; 36 or more would come once in two thousand times.
    assert alarms < 36


@pytest.mark.parametrize(("shift", "word"), [(0.05, "up"), (-0.05, "down")])
def test_scores_that_move_raise_the_alarm(shift: float, word: str) -> None:
    rng = np.random.default_rng(1)
    thresholds = calibrated(rng.normal(0.3, 0.04, 200))
    moved = window(DriftWatch(0.001, 100), rng.normal(0.3 + shift, 0.04, 100), thresholds)
    assert moved is not None
    assert moved.alarm
    assert moved.probability < 1e-6
    assert f"moved {word}" in moved.message
    same = window(DriftWatch(0.001, 100), rng.normal(0.3, 0.04, 100), thresholds)
    assert same is not None
    assert not same.alarm


def test_a_calibration_on_few_parts_or_above_the_threshold_says_nothing() -> None:
    rng = np.random.default_rng(2)
    few = calibrated(rng.normal(0.3, 0.01, FEWEST_PARTS - 1))
    assert window(DriftWatch(0.01, 50), np.full(50, 0.9), few) is None
    above = calibrated(rng.normal(0.3, 0.01, 100))
    watch = DriftWatch(0.01, 50)
    assert [watch.next(0.1, above, 0.2) for _ in range(50)][-1] is None


def test_a_window_can_begin_anew() -> None:
    thresholds = calibrated(np.random.default_rng(3).normal(0.3, 0.01, 100))
    watch = DriftWatch(0.01, 50)
    for _ in range(49):
        assert watch.next(0.9, thresholds, 1.0) is None
    watch.forget()
    assert watch.next(0.9, thresholds, 1.0) is None


def test_the_alarm_is_told_of_when_it_begins_and_when_it_ends() -> None:
    rng = np.random.default_rng(4)
    thresholds = calibrated(rng.normal(0.3, 0.04, 200))
    told: list[tuple[str, bool]] = []
    alarm = DriftAlarm(DriftWatch(0.001, 50), lambda text, found: told.append((text, found.alarm)))
    for mean in (0.3, 0.5, 0.6, 0.3):
        for score in rng.normal(mean, 0.04, 50):
            alarm.next(float(score), thresholds, 1.0)
        if mean > 0.4:
            assert "moved up" in alarm.message
    assert [flag for _, flag in told] == [True, False]
    assert "again" in told[1][0]
    assert alarm.message == ""


def test_without_scipy_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "scipy.stats", None)
    with pytest.raises(MissingDependency):
        DriftWatch(0.01, 50)
