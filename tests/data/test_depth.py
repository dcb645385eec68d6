"""The bit depth is found from the whole set, stored with the model, and kept by a recipe."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TINY

from dad_edge.config import ModelConfig, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.data.depth import find_depth, with_depth
from dad_edge.documents import from_mapping, to_mapping
from dad_edge.errors import DataError, ModelError


def save(root: Path, *largest: int, dtype: type = np.uint16) -> list[Path]:
    """Images whose largest values are given."""
    root.mkdir(exist_ok=True)
    paths = [root / f"{index}.png" for index in range(len(largest))]
    for path, value in zip(paths, largest, strict=True):
        pixels = np.linspace(0, value, 32 * 32).reshape(32, 32).astype(dtype)
        cv2.imwrite(str(path), pixels)
    return paths


@pytest.mark.parametrize(
    ("largest", "depth"),
    [
        ((200, 255), 8),
        ((200, 256), 10),
        ((10, 1023), 10),
        ((1024, 3), 12),
        ((300, 4095), 12),
        ((4096,), 14),
        ((16383,), 14),
        ((16384, 12), 16),
        ((65535,), 16),
    ],
)
def test_the_set_tells_the_depth(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    largest: tuple[int, ...],
    depth: int,
) -> None:
    assert find_depth(save(tmp_path, *largest)) == depth
    assert bool(caplog.messages) == (depth < 16)


def test_eight_bit_files_have_their_own(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_depth(save(tmp_path, 40, 41, dtype=np.uint8)) is None
    assert not caplog.messages


def test_mixed_files_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    paths = save(tmp_path / "a", 255, dtype=np.uint8) + save(tmp_path / "b", 65535)
    assert find_depth(paths) == 16
    assert "1 of 2 images are of 16 bits" in caplog.text


def test_training_reads_by_the_depth_of_the_set(tmp_path: Path) -> None:
    save(tmp_path, 3000, 4095, 2000)
    model = with_depth(TINY, tmp_path)
    assert model.bit_depth == 12
    images = TrainingSet(tmp_path, model, TrainConfig(batch_size=2))
    assert max(images.batch(step).originals.max() for step in range(6)) == 255


def test_a_depth_of_the_recipe_is_kept(tmp_path: Path) -> None:
    save(tmp_path, 3000, 4095)
    assert with_depth(replace(TINY, bit_depth=16), tmp_path).bit_depth == 16
    narrow = with_depth(replace(TINY, bit_depth=10), tmp_path)
    with pytest.raises(DataError, match="has a value of 3000"):
        TrainingSet(tmp_path, narrow, TrainConfig(batch_size=2))


def test_settings_of_before_read_the_same() -> None:
    assert "bit_depth" not in to_mapping(TINY), "files of 8-bit sets are those of before"
    stored = to_mapping(replace(TINY, bit_depth=12))
    assert from_mapping(ModelConfig, stored, "model").bit_depth == 12
    with pytest.raises(ModelError, match="bit_depth"):
        from_mapping(ModelConfig, {**stored, "bit_depth": 11}, "model")
