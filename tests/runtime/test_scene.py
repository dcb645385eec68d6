"""A frame without a part is invalid on whatever inspects it, and reaches every result as such."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TINY, make_tiny_bundle, save_discs

from dad_edge.bundle import (
    THRESHOLDS,
    Bundle,
    open_bundle,
    write_ignore,
    write_manifest,
)
from dad_edge.config import FramingConfig, ModelConfig
from dad_edge.data.layouts import list_items
from dad_edge.deploy.build import Target, build
from dad_edge.deploy.calibrate import calibrate, in_words
from dad_edge.image.preprocess import read_frame
from dad_edge.report.evaluate import bundle_candidate, evaluate
from dad_edge.report.page import render_page
from dad_edge.report.results import report_data
from dad_edge.report.table import report_tables
from dad_edge.runtime.inspector import choose_to_judge, open_inspector
from dad_edge.runtime.opening import open_choice, open_graphs

BLACK = np.zeros((48, 48, 3), np.uint8)
BELT = np.clip(np.random.default_rng(0).normal(75, 3, (48, 48, 3)), 0, 255).astype(np.uint8)
"""As bright as a part in the whole, and plain."""
HALVES = np.where(np.arange(48) < 24, 0, 255).astype(np.uint8)[:, None, None].repeat(48, 1)
HALVES = HALVES.repeat(3, 2)
MODELS = {
    "plain": TINY,
    "norm guided": replace(TINY, fusion="norm_guided"),
    "tiles": replace(TINY, framing=FramingConfig(tiles=(2, 3))),
    "padded tiles": replace(TINY, framing=FramingConfig(tiles=(3, 1), keep_aspect=True)),
}


@pytest.fixture
def discs(tmp_path: Path) -> Path:
    return save_discs(tmp_path / "discs", 6)


def calibrated(folder: Path, discs: Path, model: ModelConfig = TINY, **options: object) -> Bundle:
    """A bundle that accepts whatever it scores, calibrated on discs, which the scene is of."""
    bundle = make_tiny_bundle(folder)
    write_manifest(
        folder,
        model=model,
        class_name="disc",
        alpha_bar=bundle.manifest.alpha_bar,
        made_with={},
    )
    if "ignore" in options:
        write_ignore(folder, np.asarray(options["ignore"]))
    calibrate(open_bundle(folder), list_items(discs, "train"))
    edit(folder, image_threshold=1.0)
    return open_bundle(folder)


def edit(folder: Path, **changes: object) -> None:
    """What an operator does to the file; `None` removes a line."""
    path = folder / THRESHOLDS
    mapping = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({key: v for key, v in mapping.items() if v is not None}))


def parts(discs: Path) -> list[np.ndarray]:
    return [read_frame(item.path) for item in list_items(discs, "train")]


def lit(frame: np.ndarray, gain: float) -> np.ndarray:
    """The frame under more or less light."""
    return np.clip(frame * float(gain), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", MODELS)
def test_frames_without_a_part_are_invalid_and_parts_are_not(
    tmp_path: Path, discs: Path, name: str
) -> None:
    bundle = calibrated(tmp_path / "bundle", discs, MODELS[name])
    inspector = open_inspector(bundle, threads=1)
    good = parts(discs)
    for frame in (*good, lit(good[0], 0.7), lit(good[0], 1.3)):
        inspection = inspector.inspect(frame)
        assert (inspection.verdict, inspection.reason) == ("good", None)
    for frame, words in (
        (BLACK, "too dark"),
        (BLACK + 255, "too bright"),
        (lit(good[0], 0.25), "too dark"),
        (lit(good[0], 6), "too bright"),
        (BELT, "too plain"),
        (HALVES, "too rich in contrast"),
    ):
        inspection = inspector.inspect(frame)
        assert inspection.verdict == "invalid"
        assert words in str(inspection.reason)
        assert 0 <= inspection.score <= 1, "it stays what the networks say"


def test_a_batch_has_a_verdict_for_each_frame(tmp_path: Path, discs: Path) -> None:
    for name in ("plain", "tiles"):
        bundle = calibrated(tmp_path / name, discs, MODELS[name])
        frames = [BLACK, parts(discs)[0], BELT]
        found = open_inspector(bundle, threads=1).inspect_batch(frames)
        assert [inspection.verdict for inspection in found] == ["invalid", "good", "invalid"]


def test_a_file_without_the_field_checks_nothing(tmp_path: Path, discs: Path) -> None:
    bundle = calibrated(tmp_path / "bundle", discs)
    edit(bundle.path, scene=None)
    old = open_bundle(bundle.path)
    assert old.thresholds is not None
    assert old.thresholds.scene is None
    assert open_inspector(old, threads=1).inspect(BLACK).verdict == "good"


def test_the_range_is_the_operators_to_change(tmp_path: Path, discs: Path) -> None:
    bundle = calibrated(tmp_path / "bundle", discs)
    edit(bundle.path, scene={"brightness": [0, 0.01], "contrast": [0, 1]})
    inspector = open_inspector(bundle.path, threads=1)
    assert inspector.inspect(BLACK).verdict == "good"
    inspection = inspector.inspect(parts(discs)[0])
    assert inspection.verdict == "invalid"
    assert str(inspection.reason).endswith("parts have 0 to 0.01")


@pytest.mark.parametrize("name", ["plain", "tiles"])
def test_what_is_ignored_is_not_part_of_the_scene(tmp_path: Path, discs: Path, name: str) -> None:
    ignore = np.zeros((8, 8), bool)
    ignore[:, :4] = True
    bundle = calibrated(tmp_path / "bundle", discs, MODELS[name], ignore=ignore)
    inspector = open_inspector(bundle, threads=1)
    part = parts(discs)[0]
    for level in (0, 255):
        beside = part.copy()
        beside[:, :22] = level
        assert inspector.inspect(beside).verdict == "good"
        hidden = part.copy()
        hidden[:, 22:] = level
        assert inspector.inspect(hidden).verdict == "invalid"
    alone = open_inspector(replace(bundle, ignore=None), threads=1)
    beside = part.copy()
    beside[:, :22] = 255
    assert alone.inspect(beside).verdict == "invalid", "the same mask is what makes it valid"


def test_engines_check_it_and_what_judges_scores_does_not(tmp_path: Path, discs: Path) -> None:
    bundle = calibrated(tmp_path / "bundle", discs)
    name = build(bundle, "fp16", Target(runtime="onnxruntime")).name
    assert open_inspector(bundle, engine=name, threads=1).inspect(BLACK).verdict == "invalid"
    with open_choice(choose_to_judge(bundle, name), threads=1) as judged:
        assert judged.inspect(BLACK).verdict == "good"
    assert open_graphs(bundle, threads=1).inspect(BLACK).verdict == "good"


def test_calibration_says_the_range_and_is_not_disturbed_by_the_one_of_before(
    tmp_path: Path, discs: Path
) -> None:
    bundle = calibrated(tmp_path / "bundle", discs)
    assert bundle.thresholds is not None
    edit(bundle.path, scene={"brightness": [0, 0.01], "contrast": [0, 0.01]})
    again = calibrate(open_bundle(bundle.path), list_items(discs, "train"))
    assert again[0].scene == bundle.thresholds.scene
    assert "frames with a brightness outside of" in in_words(*again)


def test_evaluation_counts_and_names_images_that_show_no_part(tmp_path: Path, discs: Path) -> None:
    from rich.console import Console

    bundle = calibrated(tmp_path / "bundle", discs)
    for kind in ("good", "dent"):
        (discs / "test" / kind).mkdir(parents=True)
        for index, frame in enumerate(parts(discs)[:2]):
            cv2.imwrite(str(discs / "test" / kind / f"{index}.png"), frame)
    clean = evaluate(bundle_candidate(bundle), discs, "test")
    assert not clean.outside_scene
    assert "outside_scene" not in report_data(clean)
    for index in range(7):
        cv2.imwrite(str(discs / "test" / "good" / f"black{index}.png"), BLACK)
    report = evaluate(bundle_candidate(bundle), discs, "test")
    assert len(report.outside_scene) == 7
    assert len(report.scores) == 11
    name, reason = next(iter(report.outside_scene.items()))
    assert list(report_data(report))[-1] == "outside_scene"
    assert report_data(report)["outside_scene"][name] == reason
    page = render_page(report)
    assert "7 of 11" in page
    assert reason in page
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(report_tables(report))
    text = console.export_text()
    assert "7 images" in text
    assert text.count("too dark") == 5
    assert "and 2 more" in text
