from __future__ import annotations

import numpy as np
import pytest

from dad_edge.bundle import Bundle
from dad_edge.data.demo import KINDS
from dad_edge.gate.images import Images, Sample, demo_images
from dad_edge.gate.pictures import chosen_rows, engines_sheet, worst_sheet
from dad_edge.runtime.inspector import open_inspector


def test_every_kind_comes_in_turn() -> None:
    assert chosen_rows(["a", "a", "a", "b", "c", "c"], 4) == [0, 1, 3, 4]
    assert chosen_rows(["a", "b"], 8) == [0, 1]
    assert chosen_rows([], 8) == []


def test_the_demo_shows_every_kind_of_defect(tiny_bundle: Bundle) -> None:
    images = demo_images(tiny_bundle)
    shown = [images.kinds[index] for index in chosen_rows(images.kinds, 8)]
    assert set(shown) == {"good", *KINDS}
    sample = images.load(1)
    assert sample.defective
    assert sample.mask is not None
    assert sample.mask.any()
    assert images.load(0).mask is None


def test_engines_stand_side_by_side(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    samples = [Sample("a", "good", dark_frame, None), Sample("b", "spot", bright_frame, None)]
    images = Images("frames", True, ("good", "spot"), samples.__getitem__)
    inspector = open_inspector(tiny_bundle)
    one = engines_sheet(images, {"FP32": inspector})
    two = engines_sheet(images, {"FP32": inspector, "again": inspector})
    assert two.shape[1] - one.shape[1] == pytest.approx(236, abs=2), "one more column"
    assert two.shape[0] == one.shape[0]


def test_a_difference_shows_in_the_last_column_only_where_there_is_one(
    tiny_bundle: Bundle, bright_frame: np.ndarray
) -> None:
    inspection = open_inspector(tiny_bundle).inspect(bright_frame)
    sample = Sample("one", "spot", bright_frame, None)
    same = worst_sheet("engine", [(sample, inspection, inspection)], 0.5)
    changed = inspection.score_map - np.float32(0.05)
    other = type(inspection)(
        **{name: getattr(inspection, name) for name in inspection.__slots__}
        | {"score_map": changed}
    )
    differs = worst_sheet("engine", [(sample, inspection, other)], 0.5)
    columns = np.flatnonzero((same != differs).any(axis=(0, 2)))
    assert columns.min() >= 32 + 3 * 236
