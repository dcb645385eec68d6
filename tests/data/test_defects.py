from __future__ import annotations

import cv2
import numpy as np
import pytest

from dad_edge.data.defects import (
    DEFECTS,
    VISIBLE,
    Change,
    displaced,
    draw_defect,
    scratch,
    shading,
    smeared,
    spot,
)
from dad_edge.data.synthesis import MIN_MARKED, Synthesizer

SIZE = 128
EVERYWHERE = np.ones((SIZE, SIZE), bool)
KINDS = list(dict.fromkeys(DEFECTS))


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(128,128,3) uint8: stripes and grain, so that what moves or is smeared can be seen."""
    grain = np.random.default_rng(0).normal(0, 12, (SIZE, SIZE, 1))
    stripes = 60 * np.sin(np.arange(SIZE) / 3)[:, None, None]
    return (128 + grain + stripes).clip(0, 255).repeat(3, axis=2).astype(np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_has_the_images_shape(kind, picture: np.ndarray) -> None:  # type: ignore[no-untyped-def]
    before = picture.copy()
    for seed in range(20):
        change: Change = kind(np.random.default_rng(seed), picture)
        assert change.image.shape == picture.shape
        assert change.opacity.shape == picture.shape[:2]
        assert change.opacity.dtype == np.float32
        assert change.opacity.min() >= 0
        assert change.opacity.max() <= 1 + 1e-6
    np.testing.assert_array_equal(picture, before)


def test_a_mask_marks_what_can_be_seen(picture: np.ndarray) -> None:
    half = EVERYWHERE.copy()
    half[:, SIZE // 2 :] = False
    marked = 0
    for seed in range(60):
        drawn, mask = draw_defect(np.random.default_rng(seed), picture, half)
        assert not mask[:, SIZE // 2 :].any()
        np.testing.assert_array_equal(drawn[~half], picture[~half])
        apart = cv2.absdiff(drawn, picture).mean(axis=2)
        if mask.sum() >= MIN_MARKED:
            marked += 1
            assert apart[mask].mean() > VISIBLE
    assert marked > 30


def test_what_cannot_be_seen_is_not_marked() -> None:
    plain = np.full((SIZE, SIZE, 3), 90, np.uint8)
    for kind in (displaced, smeared):
        change = kind(np.random.default_rng(1), plain)
        assert np.abs(change.image - plain).max() < 1
    masks = [draw_defect(np.random.default_rng(seed), plain, EVERYWHERE)[1] for seed in range(40)]
    assert 0 < sum(mask.any() for mask in masks) < 40


def test_lines_are_thin_spots_small_and_shading_broad(picture: np.ndarray) -> None:
    def share(kind) -> float:  # type: ignore[no-untyped-def]
        drawn = [kind(np.random.default_rng(seed), picture).opacity > 0.25 for seed in range(30)]
        return float(np.mean(drawn))

    assert max(share(scratch), share(spot)) < 0.02
    assert share(shading) > 0.1


def test_sizes_scale_with_the_image(picture: np.ndarray) -> None:
    large = cv2.resize(picture, (2 * SIZE, 2 * SIZE))
    for kind in (spot, smeared):
        small_share, large_share = (
            np.mean([kind(np.random.default_rng(s), image).opacity.mean() for s in range(40)])
            for image in (picture, large)
        )
        assert large_share == pytest.approx(small_share, rel=0.25)


def test_a_share_of_the_anomalies_is_drawn(picture: np.ndarray) -> None:
    """With a share of 0 every draw is one of Eq. 9, and the same as ever."""
    plain, mixed = Synthesizer(None), Synthesizer(None, defect_share=1.0)
    expected = plain.draw(np.random.default_rng(3), picture, 0)
    again = Synthesizer(None, defect_share=0.0).draw(np.random.default_rng(3), picture, 0)
    np.testing.assert_array_equal(expected.image, again.image)
    for seed in range(10):
        drawn = mixed.draw(np.random.default_rng(seed), picture, 0)
        assert drawn.mask.sum() >= MIN_MARKED
        assert (drawn.image != picture).any()


def test_where_no_defect_can_be_drawn_equation_9_is(picture: np.ndarray) -> None:
    spot_only = np.zeros((SIZE, SIZE), bool)
    spot_only[60:63, 60:64] = True
    drawn = Synthesizer([spot_only], defect_share=1.0).draw(np.random.default_rng(1), picture, 0)
    np.testing.assert_array_equal(drawn.mask, spot_only)
