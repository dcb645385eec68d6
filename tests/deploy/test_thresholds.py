"""Which thresholds hold for an engine, and where they come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from small_networks import make_network_bundle, write_images

from dad_edge.bundle import ENGINES, Bundle, open_bundle, write_thresholds
from dad_edge.data.layouts import list_items
from dad_edge.deploy.build import Target, build
from dad_edge.deploy.calibrate import calibrate
from dad_edge.deploy.thresholds import are_derived, derive_thresholds, parts_of
from dad_edge.errors import UsageError
from dad_edge.report.evaluate import CALIBRATED, bundle_candidate
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.sidecar import thresholds_for

CPU = Target(runtime="onnxruntime")


@pytest.fixture
def good(tmp_path: Path) -> Path:
    return write_images(tmp_path / "data/train/good", 6).parents[1]


@pytest.fixture
def bundle(tmp_path: Path, good: Path) -> Bundle:
    made = make_network_bundle(tmp_path / "bundle")
    calibrate(made, list_items(good, "train"), false_reject_rate=0.2)
    return open_bundle(made.path)


def test_an_engine_gets_the_quantile_of_its_own_scores(bundle: Bundle, good: Path) -> None:
    name = build(bundle, "int8", CPU).name
    assert thresholds_for(bundle, name) == (bundle.thresholds, "thresholds.json of the bundle")
    items, reason = parts_of(bundle, good, None)
    assert items is not None
    assert reason is None
    assert not are_derived(bundle, name)
    found = derive_thresholds(bundle, name, items)
    assert are_derived(bundle, name)
    scores = sorted(_scores(bundle, name, good))
    assert found.image_threshold == scores[5], "the 6th of 6 at a rate of 0.2"
    assert bundle.thresholds is not None
    assert found.image_threshold != bundle.thresholds.image_threshold
    assert found.target_false_reject_rate == 0.2
    assert thresholds_for(bundle, name) == (found, "thresholds.json of the engine")
    assert thresholds_for(bundle, None)[0] == bundle.thresholds
    assert open_inspector(bundle, engine=name).threshold == found.image_threshold
    assert open_inspector(bundle).threshold == bundle.thresholds.image_threshold
    candidate = bundle_candidate(bundle, engine=name)
    assert candidate.threshold == found.image_threshold
    assert candidate.origin == "from thresholds.json of the engine"
    assert bundle_candidate(bundle).origin == CALIBRATED


def _scores(bundle: Bundle, name: str, good: Path) -> list[float]:
    from dad_edge.image.preprocess import read_frame

    inspector = open_inspector(bundle, engine=name)
    return [inspector.inspect(read_frame(i.path)).score for i in list_items(good, "train")]


def test_the_operators_file_holds_once_it_was_edited(bundle: Bundle, good: Path) -> None:
    name = build(bundle, "fp16", CPU).name
    derive_thresholds(bundle, name, list_items(good, "train"))
    assert bundle.thresholds is not None
    write_thresholds(bundle, replace(bundle.thresholds, image_threshold=0.99))
    edited = open_bundle(bundle.path)
    thresholds, origin = thresholds_for(edited, name)
    assert thresholds is not None
    assert thresholds.image_threshold == 0.99
    assert origin == "thresholds.json of the bundle, which was changed since"
    assert not are_derived(edited, name)
    assert open_inspector(edited, engine=name).threshold == 0.99


def test_scores_of_good_parts_stay_those_of_the_engine_until_a_calibration(
    bundle: Bundle, good: Path
) -> None:
    name = build(bundle, "int8", CPU).name
    found = derive_thresholds(bundle, name, list_items(good, "train"))
    of_graphs = bundle.thresholds
    assert of_graphs is not None
    assert found.normal_score_quantiles != of_graphs.normal_score_quantiles
    write_thresholds(bundle, replace(of_graphs, image_threshold=0.99))
    edited, _ = thresholds_for(open_bundle(bundle.path), name)
    assert edited is not None
    assert edited.image_threshold == 0.99
    assert edited.normal_score_quantiles == found.normal_score_quantiles
    moved = {q: score * 0.5 for q, score in of_graphs.normal_score_quantiles.items()}
    write_thresholds(bundle, replace(of_graphs, normal_score_quantiles=moved))
    calibrated, _ = thresholds_for(open_bundle(bundle.path), name)
    assert calibrated is not None
    assert calibrated.normal_score_quantiles == moved


def test_other_images_than_those_of_the_calibration_are_refused(
    bundle: Bundle, good: Path, tmp_path: Path
) -> None:
    fewer = write_images(tmp_path / "fewer/train/good", 3).parents[1]
    assert parts_of(bundle, fewer, None) == (
        None,
        "the bundle was calibrated on 6 images of good parts, these are 3: name that data set "
        "with --normal",
    )
    others = write_images(tmp_path / "others/train/good", 6, 1).parents[1]
    with pytest.raises(UsageError, match="calibrated on another good/00") as caught:
        parts_of(bundle, None, others)
    assert "dad-edge calibrate --data" in caught.value.next_step
    assert parts_of(bundle, fewer, good)[1] is None, "the named set counts"
    assert "--normal FOLDER" in str(parts_of(bundle, None, None)[1])
    (tmp_path / "empty").mkdir()
    assert parts_of(bundle, tmp_path / "empty", None)[0] is None


def test_a_bundle_that_is_not_calibrated_has_none(tmp_path: Path, good: Path) -> None:
    bundle = make_network_bundle(tmp_path / "raw")
    assert parts_of(bundle, good, None)[1] is not None
    assert thresholds_for(replace(bundle, thresholds=None), None) == (None, "not calibrated")


def test_they_are_stored_with_the_engine_and_go_with_it(bundle: Bundle, good: Path) -> None:
    name = build(bundle, "fp16", CPU).name
    derive_thresholds(bundle, name, list_items(good, "train"))
    path = bundle.path / ENGINES / name / "thresholds.json"
    assert json.loads(path.read_text())["thresholds"]["normal_images"] == 6
    build(bundle, "fp16", CPU)
    assert not path.exists(), "a new engine has new scores"
