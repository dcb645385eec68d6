from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_networks import make_network_bundle, write_images

from dad_edge.bundle import DENOISER, SEGMENTER, open_bundle
from dad_edge.data.layouts import list_items
from dad_edge.deploy.calibrate import (
    Rate,
    calibrate,
    conformal_quantile,
    in_words,
    not_trained_on,
    read_manifest,
    thresholds_from,
)
from dad_edge.deploy.thresholds import parts_of
from dad_edge.errors import DataError, UsageError
from dad_edge.files import sha256_of
from dad_edge.model.parts import Parts, write_parts
from dad_edge.runtime.inspector import open_inspector


def test_conformal_quantile_takes_the_score_that_its_formula_names() -> None:
    scores = [float(n) for n in range(99, 0, -1)]
    assert conformal_quantile(scores, 0.01) == 99
    assert conformal_quantile(scores, 0.02) == 98
    assert conformal_quantile(scores, 0.1) == 90
    assert conformal_quantile(scores[:9], 0.01) == 99, "too few scores: the largest"


def test_conformal_quantile_keeps_its_promise_on_new_scores() -> None:
    rng = np.random.default_rng(0)
    rejected = [
        rng.normal() > conformal_quantile(list(rng.normal(size=39)), 0.05) for _ in range(4000)
    ]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.011)  # 3 standard deviations


def test_scores_give_the_image_threshold_and_peaks_the_pixel_threshold() -> None:
    scores = [0.01 * n for n in range(1, 10)]
    peaks = [0.5 + score for score in reversed(scores)]
    found = thresholds_from(scores, peaks, 0.2)
    assert found.image_threshold == pytest.approx(0.08)
    assert found.pixel_threshold == pytest.approx(0.58)
    assert found.target_false_reject_rate == 0.2
    assert found.smallest_supported_rate == pytest.approx(0.1)
    assert found.normal_images == 9
    assert found.normal_score_quantiles["0.5"] == pytest.approx(0.05)
    assert found.normal_score_quantiles["1.0"] == pytest.approx(0.09)


def test_rate_knows_what_the_images_support() -> None:
    assert Rate(0.01, 99).supported
    assert not Rate(0.01, 98).supported
    assert Rate(0.01, 12).images_needed == 99
    assert Rate(0.05, 19).smallest == pytest.approx(0.05)


def test_calibration_writes_thresholds_and_ranges_that_the_bundle_accepts(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    items = list_items(write_images(tmp_path / "good", 6), "train")
    steps: list[tuple[int, int]] = []
    thresholds, calibration = calibrate(
        bundle,
        items,
        false_reject_rate=0.3,
        range_items=items[:3],
        progress=lambda done, total: steps.append((done, total)),
    )
    reread = open_bundle(bundle.path)
    assert reread.thresholds == thresholds
    assert reread.calibration == calibration
    assert steps[-1] == (9, 9)
    assert list(calibration.images) == ["good/000.png", "good/001.png", "good/002.png"]
    low, high = calibration.ranges[DENOISER]["x_t"]
    assert -2 < low < -0.5, "an image in [0,1] with noise of deviation 0.3 at λ = 100"
    assert 1.5 < high < 3
    assert {"pair", "one", "two"} <= set(calibration.ranges[SEGMENTER])
    assert calibration.ranges[SEGMENTER]["one"][0] >= 0

    scores = [i.score for i in map(open_inspector(reread).inspect, _frames(items))]
    assert sum(s > thresholds.image_threshold for s in scores) == 1
    text = in_words(thresholds, calibration)
    assert "6 images" in text
    assert "warning" not in text

    before = (bundle.path / "calibration.json").read_bytes()
    calibrate(reread, items, false_reject_rate=0.3, range_items=items[:3])
    assert (bundle.path / "calibration.json").read_bytes() == before


def _frames(items: list) -> list[np.ndarray]:
    from dad_edge.image.preprocess import read_frame

    return [read_frame(item.path) for item in items]


def test_too_few_images_are_said(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    items = list_items(write_images(tmp_path / "good", 3), "train")
    thresholds, calibration = calibrate(bundle, items)
    assert thresholds.smallest_supported_rate == 0.25
    assert "needs 99 images" in in_words(thresholds, calibration)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_impossible_rates_are_refused(tmp_path: Path, rate: float) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    with pytest.raises(UsageError, match="not between 0 and 1"):
        calibrate(bundle, [], false_reject_rate=rate)


def test_a_truncated_image_leaves_the_bundle_as_it_was(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    folder = write_images(tmp_path / "good", 2)
    (folder / "001.png").write_bytes((folder / "001.png").read_bytes()[:60])
    with pytest.raises(DataError, match=r"001\.png"):
        calibrate(bundle, list_items(folder, "train"))
    assert open_bundle(bundle.path) == bundle


def test_ranges_come_from_images_that_cover_the_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.deploy.calibrate.RANGE_IMAGES", 3)
    folder = write_images(tmp_path / "good", 8, 100, 120)
    cv2.imwrite(str(folder / "006.png"), np.full((48, 48, 3), 250, np.uint8))
    cv2.imwrite(str(folder / "007.png"), np.zeros((48, 48, 3), np.uint8))
    steps: list[tuple[int, int]] = []
    bundle = make_network_bundle(tmp_path / "bundle")
    _, calibration = calibrate(
        bundle,
        list_items(folder, "train"),
        progress=lambda done, total: steps.append((done, total)),
    )
    assert {"good/006.png", "good/007.png"} <= set(calibration.images)
    assert len(calibration.images) == 3
    assert steps[-1] == (11, 11)


def test_manifest_is_held_against_the_images(tmp_path: Path) -> None:
    from calibration.select_images import write_selection

    folder = write_images(tmp_path / "good", 5)
    items = list_items(folder, "train")
    manifest = tmp_path / "manifest.json"
    write_selection(folder, 2, manifest)
    named = read_manifest(manifest, items)
    assert [item.name for item in named] == list(json.loads(manifest.read_text())["images"])
    named[1].path.write_bytes(b"another")
    with pytest.raises(DataError, match="was changed"):
        read_manifest(manifest, items)
    for damaged in ("[]", "[" * 100_000):
        manifest.write_text(damaged)
        with pytest.raises(DataError, match="not a manifest"):
            read_manifest(manifest, items)


def test_images_that_taught_the_model_are_left_out(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    items = list_items(write_images(tmp_path / "good", 6), "train")
    assert not_trained_on(bundle, items) == items
    digests = [sha256_of(item.path) for item in items]
    # Known by content: a copy under another name was trained on too.
    taught = {f"another-name-{i}": digest for i, digest in enumerate(digests[:4])}
    write_parts(bundle.path, Parts(trained_on=taught, kept_out={}))
    assert not_trained_on(bundle, items) == items[4:]
    assert not_trained_on(bundle, items[:3]) == items[:3]

    thresholds, calibration = calibrate(bundle, not_trained_on(bundle, items))
    assert "4 images that the model was trained on were left out" in in_words(
        thresholds, calibration, left_out=4
    )
    again = open_bundle(bundle.path)
    assert parts_of(again, None, tmp_path / "good") == (items[4:], None)
