from __future__ import annotations

import math

import numpy as np
import pytest

from dad_edge.scores import score_text, side_by_side, threshold_text


def test_texts_are_as_short_as_wanted_where_that_is_enough() -> None:
    assert score_text(0.25, 0.5, 4) == "0.2500"
    assert side_by_side(0.25, 0.5, 3) == ("0.250", "0.500")
    assert threshold_text(0.5) == "0.5"


def test_a_score_just_below_the_threshold_is_not_rounded_above_it() -> None:
    score, threshold = float(np.float32(0.13868555)), 0.13868559
    assert float(score_text(score, threshold, 6)) <= threshold
    shown_score, shown_threshold = side_by_side(score, threshold, 4)
    assert float(shown_score) <= float(shown_threshold)


@pytest.mark.parametrize("seed", range(20))
def test_texts_agree_with_the_rule_for_neighbours_of_a_threshold(seed: int) -> None:
    base = np.random.default_rng(seed).random(dtype=np.float32)
    neighbours = [base, np.nextafter(base, np.float32(0)), np.nextafter(base, np.float32(1))]
    for threshold in map(float, neighbours):
        for score in map(float, neighbours):
            rejected = score > threshold
            assert (float(score_text(score, threshold, 4)) > threshold) == rejected
            shown_score, shown_threshold = side_by_side(score, threshold, 4)
            assert (float(shown_score) > float(shown_threshold)) == rejected
            shown = float(score_text(score, threshold, 4))
            assert (shown > float(threshold_text(threshold))) == rejected


def test_a_score_that_is_no_number() -> None:
    assert score_text(math.nan, 0.5, 4) == "nan"
    assert side_by_side(math.nan, 0.5, 3) == ("nan", "0.500")
