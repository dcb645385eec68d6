from __future__ import annotations

import math

import numpy as np
import pytest

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError
from dad_edge.runtime.inspection import STAGES, verdict_of
from dad_edge.runtime.inspector import open_inspector


def test_verdicts_follow_the_frames(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    inspector = open_inspector(tiny_bundle, threads=1)
    good, defect = inspector.inspect_batch([dark_frame, bright_frame])
    assert (good.verdict, defect.verdict) == ("good", "defect")
    assert good.score < 0.1 < 0.9 < defect.score
    assert defect.heat.shape == (32, 32)
    assert defect.heat.dtype == np.uint8
    assert tuple(defect.stage_ms) == STAGES
    assert "ONNX Runtime" in inspector.backend


def test_the_same_frame_gets_the_same_score_alone_and_in_a_batch(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    inspector = open_inspector(tiny_bundle, threads=1)
    alone = inspector.inspect(dark_frame).restored
    again = inspector.inspect_batch([bright_frame, dark_frame])[1].restored
    np.testing.assert_array_equal(alone, again)


def test_fresh_noise_changes_what_the_denoiser_sees(
    tiny_bundle: Bundle, dark_frame: np.ndarray
) -> None:
    inspector = open_inspector(tiny_bundle, threads=1, fresh_noise=True)
    first, second = inspector.inspect(dark_frame), inspector.inspect(dark_frame)
    assert np.abs(first.restored - second.restored).max() > 0.05


@pytest.mark.parametrize(
    "frame",
    [
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
    ],
)
def test_frames_of_another_layout_are_refused(tiny_bundle: Bundle, frame: np.ndarray) -> None:
    with pytest.raises(DataError, match="uint8 BGR"):
        open_inspector(tiny_bundle, threads=1).inspect(frame)


@pytest.mark.parametrize("score", [math.nan, math.inf, -math.inf])
def test_a_score_that_is_not_finite_is_never_good(score: float) -> None:
    assert verdict_of(score, 0.5) == "invalid"
