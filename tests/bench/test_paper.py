from __future__ import annotations

import pytest

from dad_edge.bench import paper


def test_both_tables_report_the_same_two_lambda_row() -> None:
    full, both = paper.TABLE_3[-1], paper.TABLE_4[-1]
    assert full.lambdas == both.lambdas == (100, 200)
    assert (full.fps, full.image_auroc, full.pro) == (both.fps, both.image_auroc, both.pro)
    assert both.gflop == pytest.approx(1278.4)
