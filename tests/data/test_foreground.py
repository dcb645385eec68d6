from __future__ import annotations

import cv2
import numpy as np
import pytest

from dad_edge.data.foreground import find_foregrounds, object_mask
from dad_edge.errors import DataError

SIZE = 96


def scene(
    rng: np.random.Generator, ground: int, thing: int, centre: tuple[int, int] = (48, 48)
) -> tuple[np.ndarray, np.ndarray]:
    """A disc of about 22 % of the image on a plain ground with camera noise, and its mask."""
    mask = np.zeros((SIZE, SIZE), np.uint8)
    cv2.circle(mask, centre, 25, 1, thickness=cv2.FILLED)
    clean = np.where(mask[:, :, None] > 0, thing, ground) + rng.normal(0, 5, (SIZE, SIZE, 3))
    return clean.clip(0, 255).astype(np.uint8), mask.astype(bool)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def texture(rng: np.random.Generator, sigma: float) -> np.ndarray:
    grain = cv2.GaussianBlur(rng.normal(0, 1, (SIZE, SIZE)), (0, 0), sigma)
    grey = 128 + 30 * grain / grain.std()
    return np.dstack([grey] * 3).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(("ground", "thing"), [(230, 60), (20, 150), (90, 140)])
def test_objects_on_light_and_dark_grounds(ground: int, thing: int) -> None:
    rng = np.random.default_rng(0)
    for centre in ((48, 48), (35, 60)):
        frame, truth = scene(rng, ground, thing, centre)
        found = object_mask(frame)
        assert found is not None
        assert found.dtype == np.bool_
        assert overlap(found, truth) > 0.9


def test_holes_belong_to_the_object() -> None:
    frame, truth = scene(np.random.default_rng(1), 230, 60)
    cv2.circle(frame, (48, 48), 10, (230, 230, 230), thickness=cv2.FILLED)
    found = object_mask(frame)
    assert found is not None
    assert found[48, 48]
    assert overlap(found, truth) > 0.9


@pytest.mark.parametrize("sigma", [0.5, 2.0, 4.0, 8.0, 16.0])
def test_textures_have_no_object(sigma: float) -> None:
    rng = np.random.default_rng(2)
    assert find_foregrounds([texture(rng, sigma) for _ in range(10)]) is None


def test_a_plain_image_has_no_object() -> None:
    assert object_mask(np.full((SIZE, SIZE, 3), 128, np.uint8)) is None


def test_one_mask_an_image_and_the_usual_one_where_none_was_found() -> None:
    rng = np.random.default_rng(3)
    scenes = [scene(rng, 230, 60) for _ in range(9)]
    blank = np.full((SIZE, SIZE, 3), 230, np.uint8)
    masks = find_foregrounds([*(frame for frame, _ in scenes), blank])
    assert masks is not None
    assert len(masks) == 10
    assert all(
        overlap(mask, truth) > 0.9 for mask, (_, truth) in zip(masks[:9], scenes, strict=True)
    )
    assert overlap(masks[9], scenes[0][1]) > 0.9


def test_an_object_that_moves_about_still_gives_every_image_a_foreground() -> None:
    rng = np.random.default_rng(4)
    corners = [(27, 27), (69, 27), (27, 69), (69, 69)]
    blank = np.full((SIZE, SIZE, 3), 230, np.uint8)
    masks = find_foregrounds([*(scene(rng, 230, 60, c)[0] for c in corners), blank])
    assert masks is not None
    assert min(mask.mean() for mask in masks) > 0.1


@pytest.mark.parametrize(("dark", "light", "thing"), [(180, 240, 60), (10, 50, 160)])
def test_a_ground_that_grows_lighter_is_not_the_object(dark: int, light: int, thing: int) -> None:
    frame, truth = scene(np.random.default_rng(5), 0, 0)
    ground = np.broadcast_to(np.linspace(dark, light, SIZE)[None, :, None], frame.shape)
    noise = np.random.default_rng(6).normal(0, 3, frame.shape)
    frame = (np.where(truth[:, :, None], thing, ground) + noise).clip(0, 255).astype(np.uint8)
    found = object_mask(frame)
    assert found is not None
    assert overlap(found, truth) > 0.9


def test_a_choice_overrides_what_the_images_show() -> None:
    rng = np.random.default_rng(7)
    frames = [scene(rng, 230, 60)[0], *(texture(rng, 1.0) for _ in range(3))]
    assert find_foregrounds(frames) is None
    forced = find_foregrounds(frames, "object")
    assert forced is not None
    assert len(forced) == 4
    assert (forced[1] == forced[0]).all()
    objects = [scene(rng, 230, 60)[0] for _ in range(4)]
    assert find_foregrounds(objects) is not None
    assert find_foregrounds(objects, "texture") is None


def test_an_object_cannot_be_forced_where_there_is_none() -> None:
    blank = np.full((SIZE, SIZE, 3), 128, np.uint8)
    with pytest.raises(DataError, match="no object stands out"):
        find_foregrounds([blank, blank], "object")
