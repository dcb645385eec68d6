"""Whether there is a part to judge: brightness and contrast of a frame beside those of good parts.

The score of a black frame, an empty belt or a lens cap says nothing, and is often low.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import UsageError
from dad_edge.image.masks import Mask

HALF_WAY = 0.5
"""How far the range of a scene goes from the good parts to the ends of the scale.

Good parts of the same kind fall outside of the smallest and largest values of n images with a
probability of at most 4 / (n + 1) (two measures, two ends); this margin is for what the images do
not show. It takes light that fades by half, and defects that cover much of the frame. It leaves
out what is black, white or plain, unless the parts themselves come close to that.
"""
_CONTRAST_END = 0.5
"""The largest standard deviation of values in 0..1: half of them black, half of them white."""
_PLACES = 4
"""Decimal places that an operator reads."""


class Look(NamedTuple):
    """What is measured of a frame, on the fixed scale where 0 is black and 1 is white."""

    brightness: float
    """Mean of the grey values."""
    contrast: float
    """Standard deviation of the grey values."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Scene:
    """How bright and how rich in contrast a frame has to be to show a part.

    Of grey values, on the fixed scale where 0 is black and 1 is white, of all that is not ignored.
    """

    brightness: tuple[float, float]
    """Smallest and largest mean."""
    contrast: tuple[float, float]
    """Smallest and largest standard deviation; 0 is a plain area, 0.5 the most there can be."""

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast"):
            low, high = getattr(self, name)
            if not 0 <= low <= high <= 1:
                raise UsageError(
                    f"{name} must be two numbers in [0, 1], the smaller one first, got "
                    f"[{low}, {high}].",
                    "correct them, or remove 'scene' to check nothing",
                )


def look_at(
    image: NDArray[np.float32], ignored: Mask | None, value_range: tuple[float, float]
) -> Look:
    """Measure a frame as the networks see it.

    Args:
        image: (3,h,w) float32, in `value_range`.
        ignored: (h,w), True where nothing is inspected but not everywhere; None where all is.
        value_range: value of black and value of white.
    """
    assert image.size, "the scene is measured on what the networks saw"
    sums = image[0] + image[1]  # a mean over the first axis takes ten times as long
    sums += image[2]
    seen = None if ignored is None else np.logical_not(ignored).astype(np.uint8)
    mean, deviation = (float(each[0, 0]) / 3 for each in cv2.meanStdDev(sums, mask=seen))
    low, high = value_range
    return Look((mean - low) / (high - low), deviation / (high - low))


def scene_around(looks: Sequence[Look]) -> Scene:
    """The range that frames of parts like these lie in, with its margins.

    Args:
        looks: of good parts, at least one.
    """
    brightness, contrast = (np.array(values) for values in zip(*looks, strict=True))
    return Scene(
        brightness=_with_margins(brightness, 1.0),
        contrast=_with_margins(contrast, _CONTRAST_END),
    )


def _with_margins(values: NDArray[np.float64], end: float) -> tuple[float, float]:
    low, high = (float(value) for value in np.clip([values.min(), values.max()], 0, end))
    margins = low * HALF_WAY, (end - high) * HALF_WAY
    return round(low - margins[0], _PLACES), round(high + margins[1], _PLACES)


def why_outside(look: Look, scene: Scene) -> str | None:
    """Why a frame shows no part to judge, in a few words; None where it may show one."""
    for name, value, (low, high), too_little, too_much in (
        ("brightness", look.brightness, scene.brightness, "too dark", "too bright"),
        ("contrast", look.contrast, scene.contrast, "too plain", "too rich in contrast"),
    ):
        if not low <= value <= high:
            what = too_much if value > high else too_little
            return f"{what}: {name} {value:.3g}, parts have {low:g} to {high:g}"
    return None
