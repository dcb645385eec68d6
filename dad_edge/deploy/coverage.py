"""A few images that cover a set: as different from each other as the set allows.

Farthest-point selection over small grey pictures: the first image is the one nearest to the mean,
each further one is the farthest from all that were chosen. The same images give the same choice,
and a smaller choice is the beginning of a larger one.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.data.depth import find_depth
from dad_edge.data.listing import Item
from dad_edge.image.preprocess import read_frame, resize

SIDE = 16


def thumbnail(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """A frame (H,W,3) uint8 BGR as (256,) float32: grey, 16×16 pixels, 0..255."""
    grey = cv2.cvtColor(resize(frame, SIDE), cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, np.float32).ravel()


def select(features: NDArray[np.float32], count: int) -> list[int]:
    """Rows that cover the set, in the order they were chosen; ties go to the first.

    Args:
        features: (N,D) float32.
        count: number of rows to choose; all of them if there are fewer.
    """
    chosen = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < min(count, len(features)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen


def choose(items: Sequence[Item], count: int) -> list[Item]:
    """Images of a list that cover it, in the order they were chosen.

    Raises:
        DataError: an image cannot be read.
    """
    depth = find_depth([item.path for item in items])
    features = np.stack([thumbnail(read_frame(item.path, depth)) for item in items])
    return [items[index] for index in select(features, count)]
