"""Synthetic anomalies are on the part, inspected, at the size of the score map, and repeatable."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import make_tiny_bundle, save_discs

from dad_edge.bundle import Bundle
from dad_edge.config import FramingConfig
from dad_edge.gate.synthetic import with_anomaly
from dad_edge.image.preprocess import read_frame


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_tiny_bundle(tmp_path / "bundle")


@pytest.fixture
def frame(tmp_path: Path) -> np.ndarray:
    return read_frame(save_discs(tmp_path / "data", 1) / "train/good/000.png")


def test_the_anomaly_is_on_the_object_and_nothing_else_changes(
    bundle: Bundle, frame: np.ndarray
) -> None:
    plain = cv2.resize(frame, (32, 32), interpolation=cv2.INTER_AREA)
    on_disc = plain.mean(axis=2) > 60
    for seed in range(20):
        drawn, mask = with_anomaly(frame, bundle, seed)
        assert drawn.shape == (32, 32, 3)
        assert set(np.unique(mask)) == {0, 255}
        assert on_disc[mask > 0].mean() > 0.9
        np.testing.assert_array_equal(drawn[mask == 0], plain[mask == 0])


def test_a_seed_draws_one_anomaly(bundle: Bundle, frame: np.ndarray) -> None:
    first, again, other = (with_anomaly(frame, bundle, seed)[0] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


@pytest.mark.parametrize("shape", [(16, 16, 3), (90, 48, 3), (500, 700, 3)])
def test_frames_of_any_size_and_framing(bundle: Bundle, shape: tuple[int, ...]) -> None:
    frame = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    framing = FramingConfig(tiles=(1, 2), keep_aspect=True)
    tiled = replace(
        bundle,
        manifest=replace(bundle.manifest, model=replace(bundle.model, framing=framing)),
    )
    for chosen in (bundle, tiled):
        drawn, mask = with_anomaly(frame, chosen, 0)
        assert drawn.shape[:2] == mask.shape
        assert mask.any()
