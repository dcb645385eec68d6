from __future__ import annotations

import copy
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from tiny import TINY

from benchmarks.endurance import SIZES, endure, tiny_inspector
from dad_edge.bundle import Bundle
from dad_edge.config import RuntimeName
from dad_edge.errors import DataError
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.engines import CPU_RUNTIMES
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


def test_a_score_at_the_threshold_is_good() -> None:
    assert verdict_of(0.5, 0.5) == "good"
    assert verdict_of(float(np.nextafter(0.5, 1)), 0.5) == "defect"
    assert verdict_of(0.0, 0.0) == "good"


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


class Stand:
    """An engine that answers every row with what a function makes of it."""

    name = "stand-in"

    def __init__(self, target: str, answer: Callable[[np.ndarray], np.ndarray]) -> None:
        self._target, self._answer = target, answer

    def run(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        (values,) = inputs.values()
        return {self._target: self._answer(values)}


def host_inspector(
    noise: Callable[[np.ndarray], np.ndarray] = np.zeros_like,
    mask: Callable[[np.ndarray], np.ndarray] = lambda pair: pair[:, :1] / 2,
    ignore: np.ndarray | None = None,
) -> HostInspector:
    """An inspector of the tiny model whose networks are functions."""
    table = alpha_bar_table(TINY.schedule)
    ops = NumpyOps(TINY, [float(table[step]) for step in TINY.lambdas])
    return HostInspector(ops, Stand("noise", noise), Stand("mask", mask), 0.5, ignore=ignore)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("network", ["noise", "mask"])
@pytest.mark.parametrize("ignoring", [False, True])
def test_a_network_that_gives_no_number_is_never_good(
    value: float, network: str, ignoring: bool, dark_frame: np.ndarray
) -> None:
    ignore = np.zeros((4, 4), bool)
    ignore[0, 0] = ignoring

    def spoil(values: np.ndarray) -> np.ndarray:
        result = np.full_like(values[:, : 3 if network == "noise" else 1], 0.1)
        result[4, 0, 20, 20] = value  # of the second frame, at the second λ
        return result

    inspector = host_inspector(**{network: spoil}, ignore=ignore if ignoring else None)
    good, broken, other = inspector.inspect_batch([dark_frame] * 3)
    assert (good.verdict, broken.verdict, other.verdict) == ("good", "invalid", "good")


def test_results_stay_valid_after_the_next_frames(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    inspector = open_inspector(tiny_bundle, threads=1)
    first = inspector.inspect(dark_frame)
    kept = copy.deepcopy(first)
    inspector.inspect(bright_frame)
    inspector.inspect_batch([bright_frame, bright_frame])
    for field in ("score_map", "heat", "image", "restored"):
        np.testing.assert_array_equal(getattr(first, field), getattr(kept, field))
    assert first.score == kept.score


def test_frames_of_changing_size_get_the_scores_they_get_alone(tiny_bundle: Bundle) -> None:
    inspector = open_inspector(tiny_bundle, threads=1)
    rng = np.random.default_rng(0)
    sizes = [(48, 64), (1, 1), (32, 32), (7, 200), (300, 500), (48, 64)]
    frames = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    alone = [open_inspector(tiny_bundle, threads=1).inspect(frame).score for frame in frames]
    assert [inspector.inspect(frame).score for frame in frames] == alone
    assert [inspection.score for inspection in inspector.inspect_batch(frames)] == alone


def test_a_frame_that_is_not_contiguous_is_as_good_as_its_copy(tiny_bundle: Bundle) -> None:
    whole = np.random.default_rng(0).integers(0, 256, (96, 128, 4), dtype=np.uint8)
    inspector = open_inspector(tiny_bundle, threads=1)
    for view in (whole[::2, ::2, :3], whole[::-1, :, 2::-1], whole[5:50, 9:70, :3]):
        assert not view.flags.c_contiguous
        expected = inspector.inspect(np.ascontiguousarray(view))
        found = inspector.inspect(view)
        assert found.score == expected.score
        np.testing.assert_array_equal(found.image, expected.image)


def test_no_frames_are_refused(tiny_bundle: Bundle) -> None:
    with pytest.raises(DataError, match="no frame"):
        open_inspector(tiny_bundle, threads=1).inspect_batch([])


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_many_frames_leave_memory_flat_and_equal_frames_get_equal_scores(
    runtime: RuntimeName, tmp_path: Path
) -> None:
    pytest.importorskip(runtime, reason=f"{CPU_RUNTIMES[runtime]} is not installed")
    result = endure(tiny_inspector(runtime, tmp_path), 3000)
    assert result["passed"], result
    assert len(set(result["scores"])) == len(SIZES)
    assert CPU_RUNTIMES[runtime] in result["backend"]


def test_a_score_that_changes_is_counted(tmp_path: Path) -> None:
    inspector = tiny_inspector("onnxruntime", tmp_path)
    inspector._fresh_noise = True
    result = endure(inspector, 30)
    assert not result["passed"]
    assert result["scores_that_changed"] == 30
