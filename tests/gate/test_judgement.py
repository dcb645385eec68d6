"""The ways in which nothing is measured, and the limits of what is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dad_edge.gate.images import Images, Sample
from dad_edge.gate.judgement import (
    TOLERANCES,
    Comparison,
    Judgement,
    Tolerance,
    judge,
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
