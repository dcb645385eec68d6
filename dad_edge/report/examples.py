"""Pick the images worth a look by their scores, and keep their pictures small."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

import cv2
import numpy as np

from dad_edge.config import GOOD
from dad_edge.image.pictures import InspectedImage, Picture
from dad_edge.report.results import Group, ImageScore

KEPT_SIDE = 512
"""Longest side of a kept picture, pixels; larger ones are shrunk, so that memory is bounded."""


def pick_examples(
    scores: Sequence[ImageScore], threshold: float, count: int = 6
) -> dict[Group, list[ImageScore]]:
    """The worst, borderline and best images of a test set.

    - worst: missed defects and false alarms in turn, those farthest off first;
    - borderline: the closest to the threshold on either side;
    - best: the surest defects and the surest good parts in turn.

    An image is listed once, in the first of these lists that it belongs to. Of two equal images the
    earlier one is listed.

    Args:
        scores: every image, names all different.
        threshold: a part is rejected when its score is above this.
        count: most images of a list.
    """

    def distance(image: ImageScore) -> float:
        return abs(image.score - threshold)

    def farthest(*, defective: bool, rejected: bool) -> list[ImageScore]:
        matching = (
            image
            for image in scores
            if (image.kind != GOOD) == defective and (image.score > threshold) == rejected
        )
        return sorted(matching, key=distance, reverse=True)

    lists: dict[Group, list[ImageScore]] = {
        "worst": _in_turn(
            farthest(defective=True, rejected=False), farthest(defective=False, rejected=True)
        ),
        "borderline": sorted(scores, key=distance),
        "best": _in_turn(
            farthest(defective=True, rejected=True), farthest(defective=False, rejected=False)
        ),
    }
    listed: set[ImageScore] = set()
    picked: dict[Group, list[ImageScore]] = {}
    for group, images in lists.items():
        picked[group] = [image for image in images if image not in listed][:count]
        listed.update(picked[group])
    return picked


def _in_turn(first: Sequence[ImageScore], second: Sequence[ImageScore]) -> list[ImageScore]:
    pairs = zip_longest(first, second)
    return [image for image in chain.from_iterable(pairs) if image is not None]


def small_copy(image: InspectedImage) -> InspectedImage:
    """A copy with pictures of at most `KEPT_SIDE` pixels a side; thin defects stay marked."""
    mask = image.mask
    if mask is not None:
        # Averaging keeps every trace of a defect that a nearest pixel would lose.
        mask = np.where(_shrunk(np.where(mask > 0, 255, 0).astype(np.uint8)) > 0, 255, 0)
        mask = mask.astype(np.uint8)
    return replace(
        image,
        frame=_shrunk(image.frame),
        restored=_shrunk(image.restored),
        heat=_shrunk(image.heat),
        mask=mask,
    )


def _shrunk(picture: Picture) -> Picture:
    height, width = picture.shape[:2]
    scale = KEPT_SIDE / max(height, width)
    if scale >= 1:
        return picture.copy()
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
