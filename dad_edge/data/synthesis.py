"""Synthetic anomalies for training (Sec. 3.3, Eq. 9), without any download."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from dad_edge.data.defects import draw_defect

Frame = NDArray[np.uint8]
GRID = 8
"""Cells a side that self-augmentation shuffles."""
PERLIN_THRESHOLD = 0.5
MIN_MARKED = 12
"""Fewest pixels of a synthetic anomaly; smaller masks are drawn again."""
TRIES = 20
"""How often a mask is drawn again."""


class Synthetic(NamedTuple):
    """One training image with its synthetic anomaly."""

    image: Frame
    """S: (H,W,3) uint8, BGR."""
    mask: NDArray[np.bool_]
    """M: (H,W) bool."""


def perlin_noise(rng: Generator, shape: tuple[int, int], cells: tuple[int, int]) -> NDArray[Any]:
    """Perlin gradient noise.

    Args:
        rng: source of the gradients.
        shape: height and width in pixels.
        cells: gradient cells along the height and the width.

    Returns:
        (H,W) float32, roughly in [-1, 1].
    """
    angles = rng.uniform(0, 2 * np.pi, (cells[0] + 1, cells[1] + 1))
    weight_y, slope_y = _corner_weights(shape[0], cells[0])
    weight_x, slope_x = _corner_weights(shape[1], cells[1])
    gradient_y, gradient_x = (f(angles).astype(np.float32) for f in (np.sin, np.cos))
    along_y = _product(_product(slope_y, gradient_y), weight_x.T.copy())
    along_x = _product(_product(weight_y, gradient_x), slope_x.T.copy())
    return np.asarray((along_y + along_x) * np.float32(np.sqrt(2)), dtype=np.float32)


def _product(left: NDArray[np.float32], right: NDArray[np.float32]) -> NDArray[np.float32]:
    """OpenCV's matrix product: NumPy's threads spin, which costs more than small products."""
    product = cv2.gemm(left, right, 1, None, 0)  # type: ignore[call-overload]
    return np.asarray(product, np.float32)


@lru_cache(maxsize=64)
def _corner_weights(length: int, cells: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """How each cell corner along one side counts in each pixel.

    Perlin noise is a sum over corners of a product of a part in y and a part in x, so that these
    two matrices a side are all it needs of the pixels.

    Returns:
        Two (length, cells + 1) float32: the fade weight, and the weight times the distance from
        the corner.
    """
    at = (np.arange(length) + 0.5) * cells / length
    distance = at[:, None] - np.arange(cells + 1)
    near = np.maximum(1 - np.abs(distance), 0)
    weight = near * near * near * (near * (near * 6 - 15) + 10)
    return weight.astype(np.float32), (weight * distance).astype(np.float32)


def perlin_mask(rng: Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """P: thresholded and rotated Perlin noise, from few large to many small patches."""
    cells = tuple(int(2 ** rng.integers(0, 6)) for _ in range(2))
    noise = perlin_noise(rng, shape, (cells[0], cells[1]))
    centre = (shape[1] / 2, shape[0] / 2)
    turn = cv2.getRotationMatrix2D(centre, float(rng.uniform(-90, 90)), 1.0)
    turned = cv2.warpAffine(noise, turn, (shape[1], shape[0]), borderMode=cv2.BORDER_REFLECT)
    return np.asarray(turned) > PERLIN_THRESHOLD


def _equalize(rng: Generator, image: Frame) -> Frame:
    return np.dstack([cv2.equalizeHist(plane) for plane in cv2.split(image)])


def _sharpness(rng: Generator, image: Frame) -> Frame:
    smooth = cv2.GaussianBlur(image, (0, 0), 1.5)
    amount = rng.uniform(0.5, 4.0)
    return np.asarray(cv2.addWeighted(image, 1 + amount, smooth, -amount, 0), dtype=np.uint8)


def _autocontrast(rng: Generator, image: Frame) -> Frame:
    planes = []
    for plane in cv2.split(image):
        low, high = cv2.minMaxLoc(plane)[:2]
        table = (np.arange(256) - low) * (255.0 / max(high - low, 1))
        planes.append(cv2.LUT(plane, table.clip(0, 255).astype(np.uint8)))
    return np.dstack(planes)


def _solarize(rng: Generator, image: Frame) -> Frame:
    threshold = rng.integers(32, 129)
    values = np.arange(256, dtype=np.uint8)
    table = np.where(values >= threshold, 255 - values, values)
    return np.asarray(cv2.LUT(image, table), dtype=np.uint8)


def _posterize(rng: Generator, image: Frame) -> Frame:
    return image & np.uint8(0xFF << int(rng.integers(4, 7)) & 0xFF)


def _invert(rng: Generator, image: Frame) -> Frame:
    return 255 - image


def _gamma_contrast(rng: Generator, image: Frame) -> Frame:
    table = 255 * (np.arange(256) / 255) ** rng.uniform(0.5, 2.0)
    return np.asarray(cv2.LUT(image, table.astype(np.uint8)), dtype=np.uint8)


AUGMENTATIONS: dict[str, Callable[[Generator, Frame], Frame]] = {
    "equalize": _equalize,
    "sharpness": _sharpness,
    "auto-contrast": _autocontrast,
    "solarize": _solarize,
    "posterize": _posterize,
    "invert": _invert,
    "gamma-contrast": _gamma_contrast,
}


def self_augmented(rng: Generator, image: Frame) -> Frame:
    """A: the normal image after two random augmentations, its 8×8 cells shuffled."""
    for name in rng.choice(list(AUGMENTATIONS), 2, replace=False):
        image = AUGMENTATIONS[name](rng, image)
    height, width = image.shape[:2]
    rows, columns = height // GRID, width // GRID
    whole = image[: rows * GRID, : columns * GRID]
    cells = whole.reshape(GRID, rows, GRID, columns, 3).swapaxes(1, 2).reshape(-1, rows, columns, 3)
    mixed = cells[rng.permutation(GRID * GRID)].reshape(GRID, GRID, rows, columns, 3).swapaxes(1, 2)
    shuffled = image.copy()
    shuffled[: rows * GRID, : columns * GRID] = mixed.reshape(rows * GRID, columns * GRID, 3)
    return shuffled


def procedural_texture(rng: Generator, shape: tuple[int, int]) -> Frame:
    """A: a drawn texture that stands in for a texture data set: coloured noise at some scale."""
    height, width = shape
    scale = int(2 ** rng.integers(0, 5))
    small = (max(2, height // scale), max(2, width // scale))
    grain = rng.standard_normal((*small, 3), dtype=np.float32) * np.float32(15)
    light = rng.standard_normal((*small, 1), dtype=np.float32) * np.float32(rng.uniform(10, 70))
    smooth = cv2.resize(grain + light, (width, height), interpolation=cv2.INTER_CUBIC)
    smooth += rng.uniform(0, 255, 3).astype(np.float32)
    return np.clip(smooth, 0, 255, out=smooth).astype(np.uint8)


def texture_crop(rng: Generator, texture: Frame, shape: tuple[int, int]) -> Frame:
    """A: a random flip and shift of a texture image at the size of the normal image."""
    sized = cv2.resize(texture, (shape[1], shape[0]), interpolation=cv2.INTER_AREA)
    rolled = np.roll(sized, (int(rng.integers(shape[0])), int(rng.integers(shape[1]))), (0, 1))
    return np.ascontiguousarray(rolled[:: rng.choice((-1, 1)), :: rng.choice((-1, 1))])


class Synthesizer:
    """Draws anomalies onto normal images."""

    def __init__(
        self,
        foregrounds: Sequence[NDArray[np.bool_]] | None,
        textures: Sequence[Frame] = (),
        allowed: Sequence[NDArray[np.bool_]] | None = None,
        defect_share: float = 0.0,
    ) -> None:
        """
        Args:
            foregrounds: F of every normal image; None for textures, where a random part of the
                whole image takes its place.
            textures: texture images; drawn textures where there are none.
            allowed: where an anomaly may be on every normal image; everywhere if None.
            defect_share: share of the anomalies that are drawn defects, not those of Eq. 9.
        """
        self._defect_share = defect_share
        self._foregrounds = foregrounds
        self._allowed = allowed
        self._textures = textures

    def draw(self, rng: Generator, image: Frame, index: int) -> Synthetic:
        """S = β (M ⊙ N) + (1-β)(M ⊙ A) + M̄ ⊙ N (Eq. 9), or a drawn defect.

        Args:
            rng: decides everything that is random.
            image: N, (H,W,3) uint8, BGR.
            index: position of the image in the foregrounds.
        """
        if self._defect_share and rng.random() < self._defect_share:
            allowed = self._allowed_on(index, image.shape[:2])
            for _ in range(TRIES):
                drawn, mask = draw_defect(rng, image, allowed)
                if mask.sum() >= MIN_MARKED:
                    return Synthetic(drawn, mask)
        mask = self._mask(rng, image.shape[:2], index)
        source = self._source(rng, image)
        opacity = np.float32(rng.uniform(0.0, 0.8))
        anomalous = image.copy()
        blend = opacity * image[mask] + (1 - opacity) * source[mask]
        anomalous[mask] = blend.astype(np.uint8)
        return Synthetic(anomalous, mask)

    def _mask(self, rng: Generator, shape: tuple[int, int], index: int) -> NDArray[np.bool_]:
        """M = P · F, within what is allowed; that alone where F has none of it."""
        for _ in range(TRIES):
            allowed = self._allowed_on(index, shape)
            if self._foregrounds is None:
                part = _random_part(rng, shape) & allowed
                allowed = part if part.any() else allowed
            mask = perlin_mask(rng, shape) & allowed
            if mask.sum() >= MIN_MARKED:
                return mask
        return allowed

    def _allowed_on(self, index: int, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Where an anomaly may be: on the object, if there is one, and where it is inspected."""
        inside = np.ones(shape, bool) if self._allowed is None else self._allowed[index]
        if self._foregrounds is None:
            return inside
        both = self._foregrounds[index] & inside
        return both if both.any() else inside

    def _source(self, rng: Generator, image: Frame) -> Frame:
        if rng.random() < 0.5:
            return self_augmented(rng, image)
        if not self._textures:
            return procedural_texture(rng, image.shape[:2])
        texture = self._textures[int(rng.integers(len(self._textures)))]
        return texture_crop(rng, texture, image.shape[:2])


def _random_part(rng: Generator, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """F of a texture: a rectangle of a quarter to all of each side."""
    part = np.zeros(shape, bool)
    spans = []
    for length in shape:
        extent = int(length * rng.uniform(0.25, 1.0))
        start = int(rng.integers(length - extent + 1))
        spans.append(slice(start, start + extent))
    part[spans[0], spans[1]] = True
    return part
