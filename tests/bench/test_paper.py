from __future__ import annotations

import numpy as np
import pytest

from dad_edge.bench import paper


def test_the_class_figures_give_the_printed_averages() -> None:
    auroc, pro = np.mean(list(paper.VISA.values()), axis=0)
    assert auroc == pytest.approx(paper.VISA_AVERAGE[0], abs=0.06)
    assert pro == pytest.approx(paper.VISA_AVERAGE[1], abs=0.06)
    assert np.mean(paper.DAGM) == pytest.approx(paper.DAGM_AVERAGE, abs=0.06)


def test_both_tables_report_the_same_two_lambda_row() -> None:
    full, both = paper.TABLE_3[-1], paper.TABLE_4[-1]
    assert full.lambdas == both.lambdas == (100, 200)
    assert (full.fps, full.image_auroc, full.pro) == (both.fps, both.image_auroc, both.pro)
    assert (both.image_auroc, both.pro) == paper.VISA_AVERAGE
    assert both.gflop == pytest.approx(1278.4)
