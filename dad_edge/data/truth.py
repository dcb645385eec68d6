"""The true mask of an image, and warnings of masks that look wrong."""

from __future__ import annotations

import logging

import numpy as np
from numpy.typing import NDArray

from dad_edge.data.folder import images_in
from dad_edge.data.listing import Item
from dad_edge.errors import DataError
from dad_edge.image.framing import ignored_at
from dad_edge.image.masks import Mask, read_mask
from dad_edge.image.preprocess import to_mask

SUSPICIOUS_SHARE = 0.8
"""A mask that marks more than this share of its image causes a warning."""

_log = logging.getLogger(__name__)


def read_truth(item: Item, frame: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The true mask at the image's size, or None where nothing is marked.

    A warning names masks that mark nothing or nearly everything.

    Returns:
        (H,W) uint8, 255 where the defect is.

    Raises:
        DataError: it cannot be read, or has another size than its image.
    """
    if item.mask is None:
        return None
    paths = images_in(item.mask) if item.mask.is_dir() else [item.mask]
    marked = np.zeros(frame.shape[:2], bool)
    for path in paths:
        mask = read_mask(path)
        if mask.shape != marked.shape:
            raise DataError(
                f"mask {path} is {mask.shape[1]}×{mask.shape[0]} pixels, but its image "
                f"{item.path} is {frame.shape[1]}×{frame.shape[0]}.",
                "save the mask at the size of its image, or remove it",
            )
        marked |= mask
    share = float(marked.mean())
    if share > SUSPICIOUS_SHARE:
        _log.warning("mask %s marks %.1f %% of its image; is it inverted?", item.mask, 100 * share)
    if not share:
        _log.warning("mask %s marks nothing; its image counts as without a mask.", item.mask)
        return None
    return marked.astype(np.uint8) * 255


def truth_on(
    score_map: NDArray[np.float32], mask: NDArray[np.uint8] | None, ignore: Mask | None
) -> NDArray[np.bool_]:
    """The true mask at the size of a score map (h,w), False where nothing is inspected."""
    shape = score_map.shape[0], score_map.shape[1]
    truth = np.zeros(shape, bool) if mask is None else to_mask(mask, shape)
    return np.asarray(truth & ~ignored_at(ignore, shape))
