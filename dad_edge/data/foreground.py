"""Where the object is in a normal image, found from the image itself: F of Sec. 3.3."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.config import Foreground
from dad_edge.errors import DataError

OBJECT_AREA = (0.03, 0.85)
"""Share of the image that an object on a background takes up."""
BORDER_SHARE = 0.35
"""Largest share of the image border that an object may touch."""
QUIET_GROUND = 0.5
"""Largest contrast of the ground against that of the object: 90th percentile to median."""


def object_mask(frame: NDArray[np.uint8]) -> NDArray[np.bool_] | None:
    """The object of one image: what differs in colour from the image's border.

    Args:
        frame: (H,W,3) uint8, BGR.

    Returns:
        (H,W) bool, or None where nothing stands out from a background.
    """
    lab = cv2.cvtColor(frame, cv2.COLOR_BGR2LAB).astype(np.float32)
    border = np.concatenate([lab[0], lab[-1], lab[:, 0], lab[:, -1]])
    distance = np.linalg.norm(lab - np.median(border, axis=0), axis=2)
    distance = cv2.GaussianBlur(np.minimum(distance, 255.0), (0, 0), max(frame.shape[0] / 128, 0.5))
    _, marked = cv2.threshold(distance.astype(np.uint8), 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    side = max(3, frame.shape[0] // 32) | 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))
    marked = cv2.morphologyEx(marked, cv2.MORPH_CLOSE, kernel)
    outlines, _ = cv2.findContours(marked, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if not outlines:
        return None
    filled = np.zeros(frame.shape[:2], np.uint8)
    cv2.drawContours(filled, [max(outlines, key=cv2.contourArea)], -1, 1, thickness=cv2.FILLED)
    mask = filled.astype(bool)
    edge = np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])
    fits = OBJECT_AREA[0] <= mask.mean() <= OBJECT_AREA[1] and edge.mean() <= BORDER_SHARE
    if not fits:
        return None
    quiet = np.percentile(distance[~mask], 90) <= QUIET_GROUND * np.median(distance[mask])
    return mask if quiet else None


def find_foregrounds(
    frames: Sequence[NDArray[np.uint8]], kind: Foreground = "auto"
) -> list[NDArray[np.bool_]] | None:
    """Foregrounds of a data set, or None where it shows textures and not objects.

    It shows objects when most of its images have one and the objects' areas agree.

    Args:
        frames: (H,W,3) uint8, BGR, of one size.
        kind: what the data set shows; `auto` decides it from the images.

    Returns:
        One (H,W) bool mask an image; an image whose own object was not found gets the pixels that
        belong to the object in most other images, or in any of them if the object moves about.

    Raises:
        DataError: `kind` is object, but no image has one that stands out from a background.
    """
    if kind == "texture":
        return None
    masks = [object_mask(frame) for frame in frames]
    objects = [mask for mask in masks if mask is not None]
    if kind == "auto" and not _agree(objects, len(frames)):
        return None
    if not objects:
        raise DataError(
            "no object stands out from the background in any of the normal images.",
            "use --foreground texture, or auto",
        )
    usual = np.mean(objects, axis=0) > 0.5
    if usual.mean() < OBJECT_AREA[0]:
        usual = np.any(objects, axis=0)
    return [usual if mask is None else mask for mask in masks]


def _agree(found: Sequence[NDArray[np.bool_]], images: int) -> bool:
    """Whether most images have an object and the objects' areas agree."""
    if len(found) < 0.8 * images:
        return False
    areas = np.array([mask.mean() for mask in found])
    return bool(areas.std() <= 0.35 * areas.mean())
