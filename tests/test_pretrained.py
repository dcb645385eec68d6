"""The demo bundle in the package, judged from its file on the demo product's test split."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from dad_edge.bundle import PACKAGED, open_bundle
from dad_edge.data.demo.dataset import line, write_dataset
from dad_edge.image.preprocess import to_image
from dad_edge.image.scene import look_at, why_outside
from dad_edge.report.evaluate import bundle_candidate, evaluate
from dad_edge.report.results import Summary

LARGEST_MIB = 9


def test_it_is_small() -> None:
    size = sum(path.stat().st_size for path in PACKAGED.rglob("*") if path.is_file())
    assert size < LARGEST_MIB * 2**20


def test_it_is_complete_and_unchanged() -> None:
    bundle = open_bundle(PACKAGED)
    assert bundle.model.size == "nano"
    assert bundle.thresholds is not None
    assert 0 < bundle.thresholds.image_threshold < 1
    assert bundle.calibration is not None
    assert "/" not in "".join(bundle.calibration.images).replace("good/", "")


@pytest.fixture(scope="module")
def summary(tmp_path_factory: pytest.TempPathFactory) -> Summary:
    data = tmp_path_factory.mktemp("demo") / "data"
    write_dataset(data, seed=0, train=1, test_good=30, test_per_kind=10)
    return evaluate(bundle_candidate(open_bundle(PACKAGED)), data, "test").summary


@pytest.mark.parametrize(("figure", "least"), [("image_auroc", 0.97), ("pro", 0.85)])
def test_it_finds_the_drawn_defects(summary: Summary, figure: str, least: float) -> None:
    value = getattr(summary, figure).value
    assert value is not None
    assert value >= least


def test_its_scene_holds_the_drawn_parts_and_no_black_frame() -> None:
    thresholds = open_bundle(PACKAGED).thresholds
    assert thresholds is not None
    assert thresholds.scene is not None
    size, value_range = open_bundle(PACKAGED).model.image_size, (0.0, 1.0)
    for part in islice(line(seed=3, defect_rate=0.5), 100):
        image = to_image(part.image, size, value_range)
        assert why_outside(look_at(image, None, value_range), thresholds.scene) is None
    for level in (0.0, 0.5, 1.0):
        plain = np.full((3, size, size), level, np.float32)
        assert why_outside(look_at(plain, None, value_range), thresholds.scene)


def test_the_package_holds_nothing_else() -> None:
    names = {str(path.relative_to(PACKAGED)) for path in Path(PACKAGED).rglob("*")}
    expected = {"bundle.json", "denoiser.onnx", "segmenter.onnx"}
    assert names == expected | {"thresholds.json", "calibration.json", "parts.json"}
