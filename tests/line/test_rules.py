from __future__ import annotations

import math
from collections.abc import Sequence

import pytest

from dad_edge.line.rules import RejectRule
from dad_edge.runtime.inspection import verdict_of

THRESHOLD = 0.5


def rejects(rule: RejectRule, scores: Sequence[float]) -> str:
    """One letter a frame: R rejected, . passed."""
    return "".join(
        "R" if rule.next("part", verdict_of(score, THRESHOLD), score, THRESHOLD) else "."
        for score in scores
    )


@pytest.mark.parametrize(
    ("k_of_n", "defects", "expected"),
    [
        ((1, 1), "0110", ".RR."),
        ((2, 3), "0101100", "...RRR."),
        ((2, 3), "0100100", "......."),
        ((3, 3), "1110111", "..R...R"),
        ((1, 3), "1000", "RRR."),
    ],
)
def test_k_of_n_frames_reject_a_part(k_of_n: tuple[int, int], defects: str, expected: str) -> None:
    rule = RejectRule(k_of_n, 0.0, reject_uninspected=True)
    assert rejects(rule, [0.9 if letter == "1" else 0.1 for letter in defects]) == expected


def test_hysteresis_holds_a_reject_only_once_it_has_begun() -> None:
    rule = RejectRule((1, 1), 0.1, reject_uninspected=True)
    assert rejects(rule, [0.45, 0.55, 0.45, 0.41, 0.39, 0.45]) == ".RRR.."


def test_a_score_at_the_lower_limit_ends_the_reject() -> None:
    rule = RejectRule((1, 1), 0.25, reject_uninspected=True)
    assert rejects(rule, [0.75, 0.25]) == "R."


def test_a_frame_without_a_part_ends_the_part() -> None:
    rule = RejectRule((2, 3), 0.0, reject_uninspected=True)
    assert rejects(rule, [0.9]) == "."
    assert not rule.next("no part", "invalid", 0.9, THRESHOLD)
    assert rejects(rule, [0.9, 0.9]) == ".R"
    assert not rule.next("no part", "invalid", 0.9, THRESHOLD)
    assert rejects(rule, [0.1]) == "."


@pytest.mark.parametrize("reject", [True, False])
def test_what_no_engine_could_inspect_is_rejected_unless_it_is_to_pass(reject: bool) -> None:
    rule = RejectRule((1, 1), 0.2, reject)
    assert rule.next("uninspected", "invalid", math.nan, THRESHOLD) is reject
