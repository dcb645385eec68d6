"""What is judged on: a data set is made complete, and what measures nothing stays visible."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_networks import write_images
from tiny import make_tiny_bundle

from dad_edge.bundle import Bundle
from dad_edge.data.demo import PRODUCT
from dad_edge.errors import DataError
from dad_edge.gate.images import DEMO_PAIRS, DRAWN, SYNTHETIC, data_images, demo_images, images_of


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle")


def _mark(root: Path, kind: str, count: int, value: int = 255) -> None:
    folder = root / "ground_truth" / kind
    folder.mkdir(parents=True)
    for index in range(count):
        mask = np.zeros((48, 48), np.uint8)
        mask[10:20, 10:20] = value
        cv2.imwrite(str(folder / f"{index:03}_mask.png"), mask)


def _data(root: Path, good: int = 10, spots: int = 10, train: int = 4) -> Path:
    write_images(root / "train/good", train, 1, 60)
    if good:
        write_images(root / "test/good", good, 0, 80)
    write_images(root / "test/spot", spots, 150, 256)
    return root


def test_a_complete_data_set_stays_as_it_is(bundle: Bundle, tmp_path: Path) -> None:
    data = _data(tmp_path / "data")
    _mark(data, "spot", 10)
    images = images_of(bundle, data)
    assert images.kinds == ("good",) * 10 + ("spot",) * 10
    assert images.source == "data"
    assert images.kinds == data_images(data).kinds


def test_a_folder_of_good_images_gets_anomalies_with_masks(bundle: Bundle, tmp_path: Path) -> None:
    images = images_of(bundle, write_images(tmp_path / "parts", 10))
    assert images.kinds == ("good",) * 10 + (SYNTHETIC,) * DRAWN
    samples = list(images.read())
    assert all(sample.mask is None for sample in samples[:10])
    assert all(s.defective and s.mask is not None and s.mask.any() for s in samples[10:])
    assert len({sample.name for sample in samples}) == len(samples)
    frames = [sample.frame.tobytes() for sample in samples]
    assert len(set(frames)) == len(frames), "no two are the same"
    assert [sample.frame.tobytes() for sample in images.read()] == frames, "the same again"
    assert images.source == "parts with 24 synthetic anomalies"
    assert not data_images(tmp_path / "parts").kinds.count(SYNTHETIC)


@pytest.mark.parametrize(("marked", "value"), [(0, 255), (9, 255), (10, 0)])
def test_defects_that_nothing_marks_do_not_count(
    bundle: Bundle, tmp_path: Path, marked: int, value: int
) -> None:
    data = _data(tmp_path / "data")
    _mark(data, "spot", marked, value)
    assert images_of(bundle, data).kinds.count(SYNTHETIC) == DRAWN


def test_defects_where_nothing_is_inspected_do_not_count(bundle: Bundle, tmp_path: Path) -> None:
    data = _data(tmp_path / "data")
    _mark(data, "spot", 10)
    ignore = np.zeros((48, 48), bool)
    ignore[:24] = True
    images = images_of(replace(bundle, ignore=ignore), data)
    assert images.kinds.count(SYNTHETIC) == DRAWN
    for sample in images.read():
        if sample.kind == SYNTHETIC:
            assert sample.mask is not None
            assert sample.mask[16:].any()
            assert not sample.mask[:16].any(), "no anomaly where nothing is inspected"


def test_an_ignore_mask_that_covers_everything_is_said(bundle: Bundle, tmp_path: Path) -> None:
    blind = replace(bundle, ignore=np.ones((8, 8), bool))
    images = images_of(blind, write_images(tmp_path / "parts", 10))
    with pytest.raises(DataError, match="leaves nothing of a"):
        list(images.read())


def test_too_few_good_test_images_are_made_up_from_the_training_split(
    bundle: Bundle, tmp_path: Path
) -> None:
    data = _data(tmp_path / "data", good=3, train=40)
    images = images_of(bundle, data)
    assert images.kinds.count("good") == 10
    shutil.rmtree(data / "test/good")
    assert images_of(bundle, data).kinds.count("good") == 10


def test_the_named_good_parts_are_judged_on_too(bundle: Bundle, tmp_path: Path) -> None:
    parts = write_images(tmp_path / "parts", 20)
    assert images_of(bundle, None, parts).kinds.count("good") == 20
    data = _data(tmp_path / "data", good=2, train=1)
    assert images_of(bundle, data).kinds.count("good") == 3
    assert images_of(bundle, data, parts).kinds.count("good") == 10


def test_without_data_the_demo_product_is_judged_on_its_own_bundle(
    bundle: Bundle, tmp_path: Path
) -> None:
    of_demo = replace(bundle, manifest=replace(bundle.manifest, class_name=PRODUCT))
    parts = write_images(tmp_path / "parts", 1)
    for images in (images_of(of_demo, None), images_of(of_demo, None, parts)):
        assert images.ranked
        assert len(images) == 2 * DEMO_PAIRS
    assert not images_of(bundle, None).ranked
    assert not demo_images(bundle).ranked


def test_a_folder_that_is_not_there_is_said(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        data_images(tmp_path / "absent")
    with pytest.raises(DataError, match="does not exist"):
        images_of(bundle, tmp_path / "absent")
