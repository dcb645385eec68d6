"""Drawn defects beside those of Eq. 9: scratches, spots, shading, and parts out of place.

Eq. 9 puts foreign texture on a part. Many defects are something else: a thin line, a small spot, an
uneven surface, a piece that moved. Sizes scale with the image; a mask marks what can be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Frame = NDArray[np.uint8]
Shift = NDArray[np.float32]

VISIBLE = 8.0
"""Smallest difference to the normal image that is marked, in grey levels, mean of the colours."""
SOFT = 0.25
"""Opacity from which a soft edge belongs to the defect."""
CLOSED = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (7, 7))
"""Gaps of this size in what can be seen of a defect belong to it."""


class Change(NamedTuple):
    """What a defect does to an image."""

    image: Shift
    """(H,W,3) float32: what stands where the defect is."""
    opacity: Shift
    """(H,W) float32 in [0,1]: how much of it."""


def scratch(rng: Generator, image: Frame) -> Change:
    """A thin line that wanders, darker or lighter than its ground."""
    height, width = image.shape[:2]
    scale = max(height, width) / 256
    at = np.asarray(rng.uniform(0, 1, 2) * (width, height))
    heading, turn = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.06)
    wobble = rng.uniform(0.02, 0.35)
    points = [at]
    for _ in range(int(rng.integers(6, 60))):
        heading += turn + rng.normal(0, wobble)
        at = at + 3 * scale * np.array([np.cos(heading), np.sin(heading)])
        points.append(at)
    line = np.zeros((height, width), np.uint8)
    thickness = max(1, round(rng.uniform(0.6, 4.0) * scale))
    path = np.rint(np.array(points) * 8).astype(np.int32)[None]
    cv2.polylines(line, [path], False, 255, thickness, cv2.LINE_AA, shift=3)
    return Change(_toned(rng, image), _soft(line, rng.uniform(0.0, 1.2) * scale))


def spot(rng: Generator, image: Frame) -> Change:
    """One to four small blobs of another tone."""
    height, width = image.shape[:2]
    scale = max(height, width) / 256
    blobs = np.zeros((height, width), np.uint8)
    centre = rng.uniform(0, 1, 2) * (width, height)
    for _ in range(int(rng.integers(1, 5))):
        at = centre + rng.normal(0, 12 * scale, 2)
        axes = np.exp(rng.uniform(np.log(1.5), np.log(16.0), 2)) * scale
        cv2.ellipse(blobs, (tuple(at), tuple(2 * axes), rng.uniform(0, 180)), 255, cv2.FILLED)
    return Change(_toned(rng, image), _soft(blobs, rng.uniform(0.3, 2.5) * scale))


def shading(rng: Generator, image: Frame) -> Change:
    """A broad stain, lighter or darker, whose edge is soft."""
    height, width = image.shape[:2]
    coarse = rng.standard_normal(tuple(rng.integers(3, 9, 2)), dtype=np.float32)
    hills = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    edge = np.quantile(hills[::8, ::8], rng.uniform(0.8, 0.98))
    steep = rng.uniform(3.0, 10.0)
    opacity = 1 / (1 + np.exp(-steep * (hills - edge)))
    tone = rng.uniform(25, 90) * rng.choice((-1.0, 1.0))
    return Change(image.astype(np.float32) + np.float32(tone), opacity.astype(np.float32))


def displaced(rng: Generator, image: Frame) -> Change:
    """A patch that shows another place of the image: moved, turned, stretched."""
    height, width = image.shape[:2]
    scale = max(height, width) / 256
    centre = rng.uniform(0, 1, 2) * (width, height)
    moved = cv2.getRotationMatrix2D(tuple(centre), rng.uniform(-60, 60), rng.uniform(0.7, 1.4))
    moved[:, 2] += rng.uniform(6, 40) * scale * rng.choice((-1.0, 1.0), 2)
    other = cv2.warpAffine(image, moved, (width, height), borderMode=cv2.BORDER_REFLECT)
    return Change(other.astype(np.float32), _patch(rng, image, centre))


def smeared(rng: Generator, image: Frame) -> Change:
    """A patch whose structure is gone."""
    height, width = image.shape[:2]
    scale = max(height, width) / 256
    smooth = cv2.GaussianBlur(image, (0, 0), rng.uniform(4, 16) * scale)
    centre = rng.uniform(0, 1, 2) * (width, height)
    return Change(smooth.astype(np.float32), _patch(rng, image, centre))


DEFECTS: tuple[Callable[[Generator, Frame], Change], ...] = (
    scratch,
    scratch,
    scratch,
    spot,
    spot,
    shading,
    displaced,
    smeared,
)
"""Each is as likely as its place is frequent."""


def draw_defect(
    rng: Generator, image: Frame, allowed: NDArray[np.bool_]
) -> tuple[Frame, NDArray[np.bool_]]:
    """A drawn defect on a normal image, within what is allowed.

    Args:
        rng: decides everything that is random.
        image: (H,W,3) uint8, BGR.
        allowed: (H,W) bool.

    Returns:
        The image with the defect, and its mask: (H,W) bool, True where it can be seen.
    """
    change = DEFECTS[int(rng.integers(len(DEFECTS)))](rng, image)
    opacity = (change.opacity * allowed)[:, :, None]
    blend = image + opacity * (change.image - image)
    drawn = np.rint(blend).clip(0, 255).astype(np.uint8)
    apart = cv2.blur(cv2.absdiff(drawn, image).mean(axis=2).astype(np.float32), (3, 3))
    seen = cv2.morphologyEx((apart > VISIBLE).astype(np.uint8), cv2.MORPH_CLOSE, CLOSED)
    return drawn, seen.astype(bool) & (change.opacity > SOFT) & allowed


def _toned(rng: Generator, image: Frame) -> Shift:
    """The image lighter or darker, with a hint of colour."""
    tone = rng.uniform(20, 120) * rng.choice((-1.0, -1.0, 1.0))
    tint = rng.normal(0, 12, 3) * (rng.random() < 0.5)
    ground = image if rng.random() < 0.5 else cv2.GaussianBlur(image, (0, 0), 4)
    return np.asarray(ground + (tone + tint).astype(np.float32), np.float32)


def _soft(mask: Frame, sigma: float) -> Shift:
    """An 8-bit mask as opacity, its edge softened; thin lines keep their strength."""
    opacity = np.asarray(mask / np.float32(255), np.float32)
    if sigma <= 0.3:
        return opacity
    blurred = cv2.GaussianBlur(opacity, (0, 0), sigma)
    return np.asarray(blurred / max(float(blurred.max()), 1e-6), np.float32)


def _patch(rng: Generator, image: Frame, centre: NDArray[np.float64]) -> Shift:
    """An irregular patch around a place: an ellipse whose edge is uneven."""
    height, width = image.shape[:2]
    scale = max(height, width) / 256
    axes = np.exp(rng.uniform(np.log(6.0), np.log(45.0), 2)) * scale
    corners = int(rng.integers(5, 12))
    angles = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radii = rng.uniform(0.6, 1.2, corners)
    ring = np.stack([np.cos(angles) * axes[0], np.sin(angles) * axes[1]], axis=1) * radii[:, None]
    patch = np.zeros((height, width), np.uint8)
    outline = cv2.convexHull(np.rint(centre + ring).astype(np.int32))
    cv2.fillPoly(patch, [outline], 255)
    return _soft(patch, rng.uniform(0.3, 3.0) * scale)
