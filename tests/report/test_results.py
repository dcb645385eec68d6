"""A figure has a value or a reason, and says which in the same words everywhere."""

import pytest

from dad_edge.report.results import Figure


def test_a_figure_is_per_cent_or_says_why_it_is_not_defined():
    assert Figure(value=0.98765).in_words(1) == "98.8 %"
    assert Figure(value=0.0).in_words(2) == "0.00 %"
    assert Figure(undefined="no good images").in_words(1) == "not defined: no good images"


@pytest.mark.parametrize(
    "wrong",
    [
        {},
        {"value": 0.5, "undefined": "no good images"},
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": 97.8},
    ],
)
def test_a_figure_without_value_and_reason_or_outside_its_range_is_refused(wrong):
    with pytest.raises(ValueError, match="a figure"):
        Figure(**wrong)
