from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TINY, make_tiny_bundle, save_discs

from dad_edge.bundle import Bundle, open_bundle, write_ignore
from dad_edge.config import FramingConfig, ModelConfig, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.documents import from_mapping, to_mapping
from dad_edge.errors import DataError, UsageError
from dad_edge.image.framing import (
    IGNORE,
    choose_framing,
    ignore_in,
    ignored_at,
    merge,
    on_canvas,
    plan_views,
    read_ignore,
    split_mask,
    views,
)
from dad_edge.runtime.inspection import heat_of, top_mean
from dad_edge.runtime.inspector import open_inspector

FRAMINGS = [
    FramingConfig(),
    FramingConfig(keep_aspect=True),
    FramingConfig(tiles=(2, 1)),
    FramingConfig(tiles=(2, 3), overlap=0.5),
    FramingConfig(tiles=(3, 2), overlap=0.25, keep_aspect=True),
    FramingConfig(tiles=(2, 2), overlap=0.0),
]
SHAPES = [(48, 64, 3), (100, 40, 3), (1, 7, 3), (32, 32, 3)]


def framed(framing: FramingConfig) -> ModelConfig:
    return replace(TINY, framing=framing)


def framed_bundle(bundle: Bundle, framing: FramingConfig, ignore: np.ndarray | None) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, model=framed(framing)), ignore=ignore)


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("shape", SHAPES)
def test_views_cover_the_canvas_and_a_constant_merges_to_itself(
    framing: FramingConfig, shape: tuple[int, int, int]
) -> None:
    plan = plan_views(shape, framed(framing))
    seen = np.zeros(plan.canvas, int)
    for box in plan.frame_boxes:
        seen[box] += 1
    assert seen.min() >= 1
    count = framing.tiles[0] * framing.tiles[1]
    merged = merge(np.full((count, 3, 32, 32), 0.3, np.float32), plan)
    assert merged.shape == (3, *plan.shape)
    np.testing.assert_allclose(merged, 0.3, rtol=0, atol=1e-7)
    assert all(view.size for view in views(np.zeros(shape, np.uint8), plan))


def test_a_smooth_picture_is_put_together_again() -> None:
    plan = plan_views((60, 60, 3), framed(FramingConfig(tiles=(2, 2), overlap=0.125)))
    ramp = np.add.outer(np.arange(60.0), 2 * np.arange(60.0)).astype(np.float32)
    assert plan.shape == (60, 60)
    parts = np.stack([ramp[box] for box in plan.frame_boxes])
    np.testing.assert_allclose(merge(parts, plan), ramp, atol=1e-4)


def test_overlap_passes_linearly_from_one_tile_to_the_next() -> None:
    plan = plan_views((60, 32, 3), framed(FramingConfig(tiles=(2, 1))))
    merged = merge(np.stack([np.zeros((32, 32)), np.ones((32, 32))]).astype(np.float32), plan)
    np.testing.assert_allclose(merged[28:32, 0], [0.125, 0.375, 0.625, 0.875])
    assert not merged[:28].any()
    assert (merged[32:] == 1).all()


def test_padding_repeats_the_border_and_keeps_the_shape() -> None:
    frame = np.arange(40 * 100 * 3, dtype=np.uint32).reshape(100, 40, 3).astype(np.uint8)
    plan = plan_views(frame.shape, framed(FramingConfig(keep_aspect=True)))
    canvas = on_canvas(frame, plan)
    assert canvas.shape == (100, 100, 3)
    assert plan.shape == (32, 13)
    np.testing.assert_array_equal(canvas[:, :40], frame)
    np.testing.assert_array_equal(canvas[:, 99], frame[:, 39])


def test_a_mask_is_cut_as_the_views_are() -> None:
    plan = plan_views((100, 40, 3), framed(FramingConfig(keep_aspect=True)))
    (part,) = split_mask(np.zeros(plan.shape, bool), plan, outside=True)
    assert part[:, 13:].all()
    assert not part[:, :13].any()


def test_without_framing_results_are_those_of_the_ops(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    plain = open_inspector(tiny_bundle, threads=1).inspect_batch([dark_frame, bright_frame])
    nothing = np.zeros((5, 5), bool)
    same = open_inspector(framed_bundle(tiny_bundle, FramingConfig(), nothing), threads=1)
    for one, other in zip(plain, same.inspect_batch([dark_frame, bright_frame]), strict=True):
        assert one.score == other.score
        np.testing.assert_array_equal(one.score_map, other.score_map)
        np.testing.assert_array_equal(one.heat, other.heat)
        np.testing.assert_array_equal(one.restored, other.restored)
        assert one.score == top_mean(one.score_map.reshape(1, -1), TINY.top_k)[0]
        np.testing.assert_array_equal(one.heat, heat_of(one.score_map))


@pytest.mark.parametrize("keep_aspect", [False, True])
def test_tiles_find_a_spot_where_it_is(tiny_bundle: Bundle, keep_aspect: bool) -> None:
    frame = np.zeros((240, 100, 3), np.uint8)
    frame[180:210, 60:90] = 255
    framing = FramingConfig(tiles=(3, 2), keep_aspect=keep_aspect)
    dark = np.zeros((50, 70, 3), np.uint8)
    inspector = open_inspector(framed_bundle(tiny_bundle, framing, None), threads=1)
    good, bad = inspector.inspect_batch([dark, frame])
    assert (good.verdict, bad.verdict) == ("good", "defect")
    rows, columns = np.nonzero(bad.score_map > 0.5)
    height, width = bad.score_map.shape
    assert abs((rows.mean() + 0.5) / height - 195 / 240) < 0.02
    assert abs((columns.mean() + 0.5) / width - 75 / 100) < 0.02
    assert bad.restored.shape == bad.image.shape == (3, height, width)
    assert (abs(height / width - 2.4) < 0.05) == keep_aspect


def test_what_is_ignored_counts_neither_in_score_nor_heat(
    tiny_bundle: Bundle, bright_frame: np.ndarray
) -> None:
    frame = np.zeros_like(bright_frame)
    frame[:, :32] = 255
    ignore = np.zeros((6, 8), bool)
    ignore[:, :4] = True
    inspector = open_inspector(tiny_bundle, threads=1)
    assert inspector.inspect(frame).verdict == "defect"
    write_ignore(tiny_bundle.path, ignore)
    masked = open_inspector(open_bundle(tiny_bundle.path), threads=1).inspect(frame)
    assert masked.verdict == "good"
    assert not masked.heat[:, :16].any()
    assert not masked.score_map[:, :16].any()
    assert masked.heat[:, 16:].any() == (masked.score_map[:, 16:] > 0.5 / 255).any()


def test_fewer_pixels_than_k_are_all_counted(tiny_bundle: Bundle, bright_frame: np.ndarray) -> None:
    ignore = np.ones((32, 32), bool)
    ignore[3, 4] = False
    inspector = open_inspector(framed_bundle(tiny_bundle, FramingConfig(), ignore), threads=1)
    found = inspector.inspect(bright_frame)
    assert found.score == found.score_map[3, 4] > 0.9


def test_a_mask_that_leaves_nothing_is_refused(tmp_path: Path) -> None:
    write_ignore(tmp_path, np.ones((4, 4), bool))
    with pytest.raises(DataError, match="leaves nothing to inspect"):
        read_ignore(tmp_path / "ignore.png")
    thin = np.ones((400, 400), bool)
    thin[0, 0] = False
    with pytest.raises(DataError, match="leaves nothing of a 4×4 map"):
        ignored_at(thin, (4, 4))


def test_an_ignore_mask_that_marks_nothing_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ignore.png"
    cv2.imwrite(str(path), np.zeros((8, 8), np.uint8))
    assert not read_ignore(path).any()
    assert "ignore.png marks nothing" in caplog.text


def test_an_ignore_mask_that_leads_nowhere_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / IGNORE).symlink_to("gone.png")
    with pytest.raises(DataError, match=f"cannot read image .*{IGNORE}"):
        ignore_in(tmp_path)


@pytest.mark.parametrize("name", ["ignore.PNG", "Ignore.png", "ignore.jpg", "ignore.tif"])
def test_an_ignore_mask_of_another_name_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    (tmp_path / name).write_bytes(b"")
    assert ignore_in(tmp_path) is None
    assert f"{name} is not read" in caplog.text


def test_an_ignore_mask_is_read_as_masks_are(tmp_path: Path) -> None:
    """Painted in black on a transparent ground, 16 bits."""
    alpha = np.zeros((8, 8), np.uint16)
    alpha[:3] = 65535
    path = tmp_path / "ignore.png"
    cv2.imwrite(str(path), np.dstack([np.zeros_like(alpha)] * 3 + [alpha]))
    np.testing.assert_array_equal(read_ignore(path), alpha > 0)


def test_every_tile_is_trained_on_and_ignored_pixels_stay_normal(tmp_path: Path) -> None:
    root = save_discs(tmp_path, 4)
    ignore = np.zeros((48, 48), bool)
    ignore[:, :24] = True
    model = framed(FramingConfig(tiles=(2, 2), overlap=0.0))
    train = TrainConfig(batch_size=8)
    assert len(TrainingSet(root, model, train)) == 16
    kept = TrainingSet(root, model, train, ignore=ignore)
    assert len(kept) == 8
    ignore[:, 24:30] = True
    images = TrainingSet(root, model, train, ignore=ignore)
    marks = np.concatenate([images.batch(step).masks for step in range(6)])
    assert marks.any()
    assert not marks[:, :, :8].any()


def test_no_anomaly_is_drawn_into_the_padding(tmp_path: Path) -> None:
    root = save_discs(tmp_path, 2)
    for path in (root / "train/good").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path))[:, 12:36])
    images = TrainingSet(root, framed(FramingConfig(keep_aspect=True)), TrainConfig(batch_size=8))
    marks = np.concatenate([images.batch(step).masks for step in range(6)])
    assert marks[:, :, :16].any()
    assert not marks[:, :, 16:].any()


def test_settings_without_framing_are_read_as_stretching(tmp_path: Path) -> None:
    mapping = to_mapping(TINY)
    del mapping["framing"]
    assert from_mapping(ModelConfig, mapping, "test").framing == FramingConfig()
    framing = FramingConfig(tiles=(2, 3), keep_aspect=True)
    bundle = make_tiny_bundle(tmp_path / "b")
    assert bundle.model.framing == FramingConfig()
    assert from_mapping(ModelConfig, to_mapping(framed(framing)), "test").framing == framing


def test_the_options_change_only_what_they_name() -> None:
    base = FramingConfig(tiles=(1, 4), overlap=0.25)
    assert choose_framing(base, None, False) == base
    assert choose_framing(base, "2x3", True) == FramingConfig(
        tiles=(2, 3), overlap=0.25, keep_aspect=True
    )
    for wrong in ("2", "0x3", "2x3x4", "ax1"):
        with pytest.raises(UsageError):
            choose_framing(base, wrong, False)
    with pytest.raises(UsageError, match="overlap"):
        FramingConfig(overlap=0.6)
