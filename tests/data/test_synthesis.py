from __future__ import annotations

import cv2
import numpy as np
import pytest

from dad_edge.data.synthesis import (
    AUGMENTATIONS,
    GRID,
    MIN_MARKED,
    Synthesizer,
    perlin_mask,
    perlin_noise,
    procedural_texture,
    self_augmented,
    texture_crop,
)

SIZE = 64


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(64,64,3) uint8 with a limited range, so that contrast and histogram can change."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    smooth = cv2.GaussianBlur(noise, (0, 0), 2).astype(np.float32)
    return (30 + (smooth - smooth.min()) * (170 / np.ptp(smooth))).astype(np.uint8)


@pytest.fixture(scope="module")
def foreground() -> np.ndarray:
    disc = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(disc, (32, 32), 20, 1, thickness=cv2.FILLED)
    return disc.astype(bool)


def test_the_papers_seven_augmentations() -> None:
    assert set(AUGMENTATIONS) == {
        "equalize",
        "sharpness",
        "auto-contrast",
        "solarize",
        "posterize",
        "invert",
        "gamma-contrast",
    }


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_an_augmentation_changes_values_and_nothing_else(name: str, picture: np.ndarray) -> None:
    before = picture.copy()
    changed = AUGMENTATIONS[name](np.random.default_rng(1), picture)
    assert changed.shape == picture.shape
    assert changed.dtype == np.uint8
    assert (changed != picture).mean() > 0.2
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("name", list(AUGMENTATIONS))
def test_an_augmentation_survives_a_plain_image(name: str) -> None:
    for value in (0, 128, 255):
        plain = np.full((SIZE, SIZE, 3), value, np.uint8)
        assert AUGMENTATIONS[name](np.random.default_rng(2), plain).shape == plain.shape


def test_self_augmentation_shuffles_whole_cells(picture: np.ndarray) -> None:
    def cells(image: np.ndarray) -> list[bytes]:
        side = SIZE // GRID
        return [
            image[y : y + side, x : x + side].tobytes()
            for y in range(0, SIZE, side)
            for x in range(0, SIZE, side)
        ]

    rng, twin = np.random.default_rng(3), np.random.default_rng(3)
    shuffled = self_augmented(rng, picture)
    augmented = picture
    for name in twin.choice(list(AUGMENTATIONS), 2, replace=False):
        augmented = AUGMENTATIONS[name](twin, augmented)
    assert sorted(cells(shuffled)) == sorted(cells(augmented))
    assert cells(shuffled) != cells(augmented)


def test_perlin_noise_is_smooth_and_bounded() -> None:
    noise = perlin_noise(np.random.default_rng(4), (SIZE, SIZE), (2, 2))
    assert np.abs(noise).max() <= 1.01
    assert noise.std() > 0.1
    assert np.abs(np.diff(noise, axis=0)).max() < 0.2
    corners = perlin_noise(np.random.default_rng(4), (SIZE * 16, SIZE * 16), (2, 2))
    assert abs(float(corners[SIZE * 8, SIZE * 8])) < 0.01  # zero where cells meet


def test_perlin_masks_are_sometimes_marked_and_never_full() -> None:
    rng = np.random.default_rng(5)
    shares = [perlin_mask(rng, (SIZE, SIZE)).mean() for _ in range(40)]
    assert max(shares) < 0.6
    assert np.mean(np.array(shares) > 0) > 0.5


def test_perlin_masks_reach_the_corners() -> None:
    rng = np.random.default_rng(5)
    share = np.mean([perlin_mask(rng, (SIZE, SIZE)) for _ in range(400)], axis=0)
    assert share[:6, :6].mean() > 0.5 * share.mean()


def test_textures_have_the_images_shape_and_vary(picture: np.ndarray) -> None:
    rng = np.random.default_rng(6)
    drawn = procedural_texture(rng, (48, 64))
    cropped = texture_crop(rng, picture, (48, 64))
    for made in (drawn, cropped):
        assert made.shape == (48, 64, 3)
        assert made.dtype == np.uint8
        assert made.std() > 1


@pytest.mark.parametrize("textured", [False, True])
def test_equation_9(picture: np.ndarray, foreground: np.ndarray, textured: bool) -> None:
    textures = [procedural_texture(np.random.default_rng(9), (80, 80))] if textured else []
    synthesizer = Synthesizer([foreground], textures)
    rng = np.random.default_rng(7)
    changed = []
    for _ in range(40):
        image, mask = synthesizer.draw(rng, picture, 0)
        assert image.shape == picture.shape
        assert image.dtype == np.uint8
        assert mask.dtype == np.bool_
        assert mask.sum() >= MIN_MARKED
        assert not (mask & ~foreground).any()
        np.testing.assert_array_equal(image[~mask], picture[~mask])
        changed.append((image[mask] != picture[mask]).any(axis=1).mean())
    assert np.mean(changed) > 0.8


def _drawn(image: np.ndarray, textures: list[np.ndarray], count: int) -> np.ndarray:
    """(count,) values that anomalies have on a plain image."""
    synthesizer = Synthesizer(None, textures)
    rng = np.random.default_rng(0)
    drawn = (synthesizer.draw(rng, image, 0) for _ in range(count))
    return np.array([each.image[each.mask].mean() for each in drawn])


def test_the_opacity_is_even_between_none_and_four_fifths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Eq. 9: so much of the image shows through the anomaly."""
    image, source = (np.full((SIZE, SIZE, 3), value, np.uint8) for value in (40, 240))
    monkeypatch.setattr("dad_edge.data.synthesis.self_augmented", lambda rng, given: source)
    opacity = (240 - _drawn(image, [source], 400)) / 200
    assert opacity.min() == pytest.approx(0.0, abs=0.02)
    assert opacity.max() == pytest.approx(0.8, abs=0.02)
    assert np.quantile(opacity, (0.25, 0.5, 0.75)) == pytest.approx((0.2, 0.4, 0.6), abs=0.06)


def test_half_of_the_sources_is_the_image_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    image, texture = (np.full((SIZE, SIZE, 3), value, np.uint8) for value in (100, 255))
    darker = np.zeros_like(image)
    monkeypatch.setattr("dad_edge.data.synthesis.self_augmented", lambda rng, given: darker)
    values = _drawn(image, [texture], 400)
    assert (values < 100).mean() == pytest.approx(0.5, abs=0.08)
    assert (values > 100).mean() == pytest.approx(0.5, abs=0.08)


def test_textures_are_marked_anywhere(picture: np.ndarray) -> None:
    synthesizer = Synthesizer(None)
    rng = np.random.default_rng(8)
    masks = [synthesizer.draw(rng, picture, 0).mask for _ in range(200)]
    assert min(mask.sum() for mask in masks) >= MIN_MARKED
    blocks = np.any(masks, axis=0).reshape(4, SIZE // 4, 4, SIZE // 4)
    assert blocks.any(axis=(1, 3)).all()


def test_a_small_foreground_is_used_whole(picture: np.ndarray) -> None:
    spot = np.zeros((SIZE, SIZE), bool)
    spot[30:33, 30:33] = True
    mask = Synthesizer([spot]).draw(np.random.default_rng(9), picture, 0).mask
    np.testing.assert_array_equal(mask, spot)


def test_the_generator_decides_everything(picture: np.ndarray, foreground: np.ndarray) -> None:
    synthesizer = Synthesizer([foreground])
    first, again, other = (
        synthesizer.draw(np.random.default_rng(seed), picture, 0) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.mask, again.mask)
    assert (first.image != other.image).any()
