"""The ways in which nothing is measured, and the limits of what is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dad_edge.gate.images import Images, Sample
from dad_edge.gate.judgement import (
    PRO_OF_A_GUESS,
    TOLERANCES,
    Comparison,
    Figure,
    Judgement,
    Tolerance,
    judge,
    mask_error,
    tolerance_of,
)
from dad_edge.runtime.seams import Inspection

SIDE = 8


def _inspection(score: float, on_defect: float | None, threshold: float = 0.5) -> Inspection:
    """A score map that is dark but for its upper left corner; `on_defect` is the corner's value."""
    score_map = np.full((SIDE, SIDE), 0.1, np.float32)
    if on_defect is not None:
        score_map[:2, :2] = on_defect
    empty: Any = np.zeros(0)
    verdict = "defect" if score > threshold else "good" if score <= threshold else "invalid"
    return Inspection(score, verdict, score_map, empty, empty, empty, {})  # type: ignore[arg-type]


def _judge(
    good: int = 10,
    defective: int = 10,
    *,
    precision: str = "int8",
    scores: tuple[float, float] = (0.1, 0.9),
    change: dict[int, float] | None = None,
    marked: bool = True,
    corner: float = 0.9,
    copies: bool = False,
    ranked: bool = True,
    reference: dict[int, float] | None = None,
) -> Judgement:
    """Judge an engine that gives the scores of FP32 but for some images.

    Args:
        good: number of good images, which come first.
        defective: number of defective images.
        precision: of the engine.
        scores: of good and defective images in FP32; they rise a little from image to image.
        change: image → score by the engine.
        marked: whether the defects are marked.
        corner: value of both score maps on the defect.
        copies: all images of a kind are one.
        ranked: whether they are of the bundle's product.
        reference: image → score in FP32.
    """
    seen = Comparison()
    kinds = ["good"] * good + ["spot"] * defective
    for index, kind in enumerate(kinds):
        bad = kind != "good"
        frame = np.full((4, 4, 3), 100 * bad if copies else index, np.uint8)
        truth = np.zeros((SIDE, SIDE), bool)
        truth[:2, :2] = bad
        score = (reference or {}).get(index, scores[bad] + 1e-4 * index)
        expected = _inspection(score, corner if bad else None)
        actual = _inspection((change or {}).get(index, score), corner if bad else None)
        row = seen.add(Sample(str(index), kind, frame, None), expected, actual)
        if row.sound and (marked or not bad):
            seen.reference_pixels.update(expected.score_map, truth)
            seen.engine_pixels.update(actual.score_map, truth)
            if bad:
                seen.marked.add(row.digest)
    images = Images("these", ranked, tuple(kinds), lambda index: pytest.fail("not read"))
    return judge(seen, images, precision, TOLERANCES[precision])  # type: ignore[arg-type, index]


def test_what_agrees_and_can_be_measured_passes() -> None:
    judged = _judge()
    assert judged.outcome == "passed"
    assert judged.undefined == judged.failures == ()
    assert (judged.good, judged.defective, judged.images) == (10, 10, 20)


NEEDED = "10 different {} images are needed, found {}"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"defective": 0}, NEEDED.format("defective", "none")),
        ({"good": 0}, NEEDED.format("good", "none")),
        ({"good": 1, "defective": 0}, NEEDED.format("good", "1")),
        ({"good": 9}, NEEDED.format("good", "9")),
        ({"defective": 9}, NEEDED.format("defective", "9")),
        ({"copies": True}, NEEDED.format("good", "1")),
        ({"marked": False}, "PRO is not defined: " + NEEDED.format("marked defective", "none")),
        ({"corner": 0.1}, "PRO is not defined: that of FP32 is 0.150, no better than a guess"),
        ({"ranked": False}, "AUROC and PRO are not defined: the bundle was made for another"),
        ({"scores": (0.5, 0.4)}, "AUROC is not defined: that of FP32 is 0.000, no better than a"),
    ],
)
def test_what_measures_nothing_is_not_judged(arguments: dict[str, Any], reason: str) -> None:
    judged = _judge(**arguments)
    assert judged.outcome == "not judged"
    assert any(reason in told for told in judged.undefined), judged.undefined


def test_scores_that_are_all_equal_say_nothing() -> None:
    same = dict.fromkeys(range(20), 0.3)
    judged = _judge(reference=same, change=same)
    assert judged.outcome == "not judged"
    assert judged.undefined == (
        "AUROC is not defined: that of FP32 is 0.500, no better than a guess",
    )
    assert judged.blind


def test_a_reference_that_guesses_is_not_what_an_engine_drops_from() -> None:
    """AUROC of 0.7 on ten and ten images may be luck; so may a drop from it."""
    rng = np.random.default_rng(0)
    reference = dict(enumerate(rng.uniform(0.2, 0.25, 20)))
    change = dict(enumerate(rng.uniform(0.2, 0.25, 20)))
    judged = _judge(reference=reference, change=change)
    assert judged.outcome == "not judged"
    assert judged.failures == ()


def test_numbers_that_are_not_finite() -> None:
    engine = _judge(change={3: float("nan")})
    assert engine.outcome == "failed"
    assert engine.failures == ("scores are not finite: 3",)
    reference = _judge(11, 10, reference={3: float("nan")})
    assert reference.outcome == "not judged"
    assert reference.undefined == ("FP32 itself gives no finite scores: 3",)
    assert reference.blind


def test_one_verdict_of_each_kind_may_flip_and_one_in_twenty() -> None:
    for image, before, after in ((0, 0.49, 0.51), (10, 0.51, 0.49)):
        judged = _judge(reference={image: before}, change={image: after})
        assert judged.outcome == "passed"
        assert [row.name for row in judged.flips] == [str(image)]
    two = {0: 0.49, 1: 0.49}
    judged = _judge(reference=two, change={0: 0.51, 1: 0.51})
    assert judged.failures == ("verdicts of 2 of 10 good images flip, above 5 %",)
    assert _judge(good=40, reference=two, change={0: 0.51, 1: 0.51}).outcome == "passed"


def test_scores_of_int8_have_a_limit_of_their_own() -> None:
    """Without a defect at hand too: what is out of a limit fails, whatever is not defined."""
    for defective in (10, 0):
        judged = _judge(defective=defective, change={0: 0.47})
        assert judged.outcome == "failed"
        assert judged.failures == ("score error 0.37 is above 0.1",)


def test_int8_scores_of_another_product_may_move_freely() -> None:
    moved = {0: 0.47, 1: 0.8}
    assert _judge(ranked=False, change=moved).outcome == "not judged"
    assert _judge(ranked=False, change=moved, precision="fp16").outcome == "failed"
    assert _judge(ranked=False, change={0: float("nan")}).outcome == "failed"


def test_a_drop_that_is_named_replaces_that_of_auroc_only() -> None:
    assert tolerance_of("int8", 2.0) == Tolerance(None, 0.1, 0.02, 0.01, 0.05)
    assert tolerance_of("int8") == TOLERANCES["int8"]


def test_the_limits_are_these() -> None:
    assert {
        "fp32": Tolerance(1e-4, 1e-4, 0.0, 0.0005, 0.05),
        "fp16": Tolerance(2e-2, 5e-3, 0.001, 0.002, 0.05),
        "int8": Tolerance(None, 0.1, 0.005, 0.01, 0.05),
    } == TOLERANCES


def _scores_with_auroc(good: int, defective: int, wins: int) -> dict[int, float]:
    """Scores of which so many pairs of a defective and a good image are in order."""
    scores = {image: 0.3 + 1e-3 * image for image in range(good)}
    for image in range(good, good + defective):
        above = min(wins, good)
        wins -= above
        scores[image] = 0.3 + 1e-3 * (above - 0.5) - 1e-6 * image
    assert wins == 0
    return scores


@pytest.mark.parametrize(
    ("good", "defective", "guess", "known"),
    # Half, and twice the standard error: 0.7646 and 0.7404.
    [(10, 10, 76, 77), (10, 15, 111, 112), (15, 10, 111, 112)],
)
def test_what_is_better_than_a_guess(good: int, defective: int, guess: int, known: int) -> None:
    lucky = _judge(good, defective, reference=_scores_with_auroc(good, defective, guess))
    assert lucky.auroc.is_guess
    assert lucky.auroc.reference == pytest.approx(guess / (good * defective))
    assert "no better than a guess" in str(lucky.auroc.undefined)
    able = _judge(good, defective, reference=_scores_with_auroc(good, defective, known))
    assert not able.auroc.is_guess
    assert able.auroc.undefined is None


def test_a_drop_of_auroc_beyond_its_limit_fails() -> None:
    # 200 pairs: the lowest defect falls below one good image, or below two.
    one = _judge(20, 10, scores=(0.1, 0.14), change={20: 0.1 + 1e-4 * 18.5})
    assert one.auroc.drop == pytest.approx(0.005)
    assert one.outcome == "passed"
    two = _judge(20, 10, scores=(0.1, 0.14), change={20: 0.1 + 1e-4 * 17.5})
    assert two.auroc.drop == pytest.approx(0.01)
    assert two.failures == ("AUROC drop 0.01 is above 0.005",)


def _compare(engine: Inspection, precision: str) -> tuple[Comparison, Judgement]:
    """Twenty images of which the engine gets the last one, a defect, as it is given."""
    seen = Comparison()
    kinds = ["good"] * 10 + ["spot"] * 10
    for index, kind in enumerate(kinds):
        bad = kind != "good"
        truth = np.zeros((SIDE, SIDE), bool)
        truth[:2, :2] = bad
        expected = _inspection(0.9 if bad else 0.1, 0.9 if bad else None)
        actual = engine if index == 19 else expected
        frame = np.full((4, 4, 3), index, np.uint8)
        row = seen.add(Sample(str(index), kind, frame, None), expected, actual)
        seen.reference_pixels.update(expected.score_map, truth)
        seen.engine_pixels.update(actual.score_map, truth)
        if bad:
            seen.marked.add(row.digest)
    images = Images("these", True, tuple(kinds), lambda index: pytest.fail("not read"))
    return seen, judge(seen, images, precision, TOLERANCES[precision])  # type: ignore[arg-type, index]


def test_the_image_that_differs_most_is_kept_and_named() -> None:
    seen, judged = _compare(_inspection(0.9, 0.8), "fp16")
    assert judged.mask_error_max == pytest.approx(0.1)
    assert judged.failures[0] == "mask error 0.1 is above 0.02"
    assert judged.worst[0].name == "19"
    assert len(judged.worst) == len(seen.worst) == 5
    assert seen.worst[0][0].name == "19"
    assert [row.mask_error for row in judged.worst][1:] == [0.0] * 4
    assert judged.score_error_max == 0.0
    assert judged.source == "these"
    assert _compare(_inspection(0.9, 0.8), "int8")[1].outcome == "passed"


def test_a_drop_of_pro_beyond_its_limit_fails() -> None:
    _, judged = _compare(_inspection(0.9, 0.1), "int8")
    assert judged.pro.reference == pytest.approx(1.0)
    assert judged.pro.drop is not None
    assert judged.pro.drop > 0.01
    assert judged.failures == (f"PRO drop {judged.pro.drop:.2g} is above 0.01",)


def test_a_map_that_is_not_finite_differs_without_end() -> None:
    broken = _inspection(0.9, float("nan"))
    row = Comparison().add(
        Sample("0", "spot", np.zeros((4, 4, 3), np.uint8), None), _inspection(0.9, 0.9), broken
    )
    assert row.mask_error == float("inf")
    assert (row.known, row.sound) == (True, False)


def test_copies_of_an_image_are_told_by_their_pixels() -> None:
    judged = _judge(10, 10)
    assert len({row.digest for row in judged.worst}) == 5


def test_what_is_at_its_limit_is_within_it() -> None:
    """FP32 may drop nothing, and an engine that drops nothing passes."""
    assert _judge(precision="fp32").outcome == "passed"


def test_an_engine_may_be_better_than_fp32() -> None:
    better = Figure(reference=0.8, engine=0.9, undefined=None)
    assert better.drop == pytest.approx(-0.1)
    assert not better.is_guess
    assert Figure(reference=None, engine=0.9, undefined=None).drop is None
    assert Figure(reference=0.8, engine=None, undefined=None).drop is None


def test_differences_count_in_both_directions() -> None:
    low, high = _inspection(0.2, 0.2), _inspection(0.9, 0.9)
    assert mask_error(low, high) == mask_error(high, low) == pytest.approx(0.7)


def test_the_images_are_named_from_the_worst_on() -> None:
    seen = Comparison()
    values = (0.85, 0.5, 0.7, 0.9, 0.6, 0.8)
    for index, value in enumerate(values):
        frame = np.full((4, 4, 3), index, np.uint8)
        expected, actual = _inspection(0.9, 0.9), _inspection(0.9, value)
        seen.add(Sample(str(index), "spot", frame, None), expected, actual)
    images = Images("these", True, ("spot",) * 6, lambda index: pytest.fail("not read"))
    judged = judge(seen, images, "int8", TOLERANCES["int8"])
    assert [row.name for row in judged.worst] == ["1", "4", "2", "5", "0"]
    assert [pair[0].name for pair in seen.worst] == ["1", "4", "2", "5", "0"]


def test_nothing_that_is_sound_has_no_error() -> None:
    nothing = dict.fromkeys(range(20), float("nan"))
    judged = _judge(reference=nothing, change=nothing)
    assert (judged.mask_error_max, judged.score_error_max) == (0.0, 0.0)
    assert judged.outcome == "not judged"


def test_a_pro_of_a_guess_is_half_of_the_false_positives_that_count() -> None:
    assert pytest.approx(0.15) == PRO_OF_A_GUESS


def test_too_few_images_are_no_fault_of_fp32() -> None:
    worse = {"scores": (0.5, 0.4)}
    for judged in (_judge(good=9), _judge(defective=9), _judge(good=9, **worse)):  # type: ignore[arg-type]
        assert judged.outcome == "not judged"
        assert not judged.auroc.is_guess
        assert not judged.blind
