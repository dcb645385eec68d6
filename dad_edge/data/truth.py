"""The true mask of an image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dad_edge.data.listing import Item
from dad_edge.errors import DataError
from dad_edge.image.framing import Mask, ignored_at
from dad_edge.image.preprocess import read_frame, to_mask


def read_truth(item: Item, frame: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """The true mask at the image's size, or None where nothing is marked.

    Raises:
        DataError: it cannot be read, or has another size than its image.
    """
    if item.mask is None:
        return None
    mask = read_frame(item.mask)
    if mask.shape != frame.shape:
        raise DataError(
            f"mask {item.mask} is {mask.shape[1]}×{mask.shape[0]} pixels, but its image "
            f"{item.path} is {frame.shape[1]}×{frame.shape[0]}.",
            "save the mask at the size of its image, or remove it",
        )
    return mask.max(axis=2) if mask.any() else None


def truth_on(
    score_map: NDArray[np.float32], mask: NDArray[np.uint8] | None, ignore: Mask | None
) -> NDArray[np.bool_]:
    """The true mask at the size of a score map (h,w), False where nothing is inspected."""
    shape = score_map.shape[0], score_map.shape[1]
    truth = np.zeros(shape, bool) if mask is None else to_mask(mask, shape)
    return np.asarray(truth & ~ignored_at(ignore, shape))
