from __future__ import annotations

import numpy as np
import pytest

from dad_edge.errors import UsageError
from dad_edge.image.scene import Look, Scene, look_at, scene_around, why_outside


def plain(value: float, shape: tuple[int, int] = (8, 10)) -> np.ndarray:
    return np.full((3, *shape), value, np.float32)


def test_brightness_and_contrast_are_mean_and_deviation_of_the_grey_values() -> None:
    image = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    grey = image.astype(np.float64).mean(axis=0)
    assert look_at(image, None, (0, 1)) == pytest.approx((grey.mean(), grey.std()), abs=1e-6)


def test_the_scale_is_that_of_the_model_and_never_that_of_the_content() -> None:
    image = np.random.default_rng(0).random((3, 20, 30), dtype=np.float32)
    expected = look_at(image, None, (0, 1))
    assert look_at(image * 2 - 1, None, (-1, 1)) == pytest.approx(expected, abs=1e-6)
    darker = look_at(image / 2, None, (0, 1))
    assert darker == pytest.approx([value / 2 for value in expected], abs=1e-6)
    half = plain(0)
    half[:, :4] = 1
    assert look_at(half, None, (0, 1)) == pytest.approx((0.5, 0.5))


def test_ignored_pixels_do_not_count() -> None:
    image = plain(0.25)
    image[:, :, 5:] = np.random.default_rng(0).random((3, 8, 5))
    ignored = np.zeros((8, 10), bool)
    ignored[:, 5:] = True
    assert look_at(image, ignored, (0, 1)) == pytest.approx((0.25, 0), abs=1e-6)


def test_the_range_goes_half_way_from_the_parts_to_the_ends_of_the_scale() -> None:
    scene = scene_around([Look(0.4, 0.2), Look(0.6, 0.1), Look(0.5, 0.15)])
    assert scene.brightness == pytest.approx((0.2, 0.8))
    assert scene.contrast == pytest.approx((0.05, 0.35))


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_plain_parts_have_a_range_that_holds_them(value: float) -> None:
    look = look_at(plain(value), None, (0, 1))
    assert why_outside(look, scene_around([look])) is None


def test_further_parts_like_those_measured_are_inside() -> None:
    rng = np.random.default_rng(0)
    looks = [Look(*each) for each in rng.normal((0.5, 0.2), (0.06, 0.03), (1000, 2))]
    for first in range(0, 1000, 100):
        scene = scene_around(looks[first : first + 20])
        assert not [look for look in looks if why_outside(look, scene)]


@pytest.mark.parametrize(
    ("look", "words"),
    [
        (Look(0.01, 0.2), "too dark: brightness 0.01, parts have 0.2 to 0.8"),
        (Look(0.9, 0.2), "too bright: brightness 0.9, parts have 0.2 to 0.8"),
        (Look(0.5, 0.01), "too plain: contrast 0.01, parts have 0.05 to 0.35"),
        (Look(0.5, 0.4), "too rich in contrast: contrast 0.4, parts have 0.05 to 0.35"),
        (Look(float("nan"), 0.2), "too dark: brightness nan, parts have 0.2 to 0.8"),
        (Look(0.2, 0.35), None),
    ],
)
def test_what_is_outside_is_named_with_its_numbers(look: Look, words: str | None) -> None:
    scene = Scene(brightness=(0.2, 0.8), contrast=(0.05, 0.35))
    assert why_outside(look, scene) == words


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("brightness", (0.8, 0.2)),
        ("brightness", (20.0, 80.0)),
        ("contrast", (-0.1, 0.2)),
        ("contrast", (float("nan"), 0.2)),
    ],
)
def test_ranges_that_are_none_are_refused(field: str, values: tuple[float, float]) -> None:
    ranges = {"brightness": (0.2, 0.8), "contrast": (0.1, 0.3), field: values}
    with pytest.raises(UsageError, match=f"{field} must be two numbers"):
        Scene(**ranges)
