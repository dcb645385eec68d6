"""Differences of two bundles, and which of them can change a verdict."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import make_network_bundle

from dad_edge.bundle import (
    IGNORE,
    SEGMENTER,
    Bundle,
    open_bundle,
    write_manifest,
    write_thresholds,
)
from dad_edge.deploy.build import build, find_target
from dad_edge.deploy.compare import Difference, differences


@pytest.fixture
def one(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "one")


@pytest.fixture
def other(tmp_path: Path, one: Bundle) -> Bundle:
    shutil.copytree(one.path, tmp_path / "other")
    return open_bundle(tmp_path / "other")


def found(one: Bundle, other: Bundle) -> list[Difference]:
    return differences(open_bundle(one.path), open_bundle(other.path))


def test_equal_bundles_do_not_differ(one: Bundle, other: Bundle) -> None:
    assert found(one, other) == []


def test_weights_by_how_far_they_are_apart(one: Bundle, other: Bundle) -> None:
    model = onnx.load(other.path / SEGMENTER)
    weight = model.graph.initializer[0]
    values = numpy_helper.to_array(weight) * np.float32(1.25)
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, other.path / SEGMENTER)
    manifest = other.manifest
    write_manifest(
        other.path,
        model=manifest.model,
        class_name="bolts",
        alpha_bar=manifest.alpha_bar,
        made_with={"dad-edge": "9"},
    )
    count = len(model.graph.initializer)
    network, *rest = found(one, other)
    assert (network.what, network.changes_verdicts) == (SEGMENTER, True)
    assert network.after.endswith(f"1 of {count} tensors differ, by 25.0% at most")
    assert [(each.what, each.before, each.after, each.changes_verdicts) for each in rest] == [
        ("made with: dad-edge", "test", "9", False),
        ("class name", "small", "bolts", False),
    ]


def test_thresholds_mask_and_engines(one: Bundle, other: Bundle) -> None:
    assert other.thresholds is not None
    write_thresholds(other, replace(other.thresholds, image_threshold=0.7, normal_images=12))
    mask = np.zeros((20, 10), np.uint8)
    mask[:5] = 255
    cv2.imwrite(str(other.path / IGNORE), mask)
    name = build(other, "fp16", find_target("onnxruntime")).name
    all_rows = found(one, other)
    rows = {each.what: (each.before, each.after, each.changes_verdicts) for each in all_rows}
    assert rows["thresholds: image_threshold"] == ("0.5", "0.7", True)
    assert rows["thresholds: normal_images"] == ("9", "12", False)
    assert rows["ignore mask"] == ("none", "25.00% of the frame", True)
    before, after, changes = rows[f"engine {name}"]
    assert (before, changes) == ("–", True)
    assert after.startswith("fp16, ")
    assert len(rows) == 4
    assert [each.changes_verdicts for each in all_rows] == [True, True, True, False]
