"""Pick the images worth a look from a test set of any length, one at a time."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import replace
from itertools import chain, zip_longest

import cv2
import numpy as np

from dad_edge.config import GOOD
from dad_edge.image.pictures import InspectedImage, Picture

KEPT_SIDE = 512
"""Longest side of a kept picture, pixels; larger ones are shrunk, so that memory is bounded."""


class ExampleKeeper:
    """Keeps the worst, borderline and best images of a stream.

    - worst: missed defects and false alarms in turn, each from the farthest off;
    - borderline: the closest to the threshold on either side;
    - best: the surest defects and the surest good parts in turn.

    An image is listed once, in the first of these lists that it belongs to. Of equals, the
    earlier stays.
    """

    def __init__(self, threshold: float, count: int = 6) -> None:
        self._threshold = threshold
        self._count = count
        self._missed = _Top(count)
        self._false_alarms = _Top(count)
        self._borderline = _Top(2 * count)
        self._sure_defects = _Top(count)
        self._sure_good = _Top(count)
        self._seen = 0

    def add(self, image: InspectedImage) -> None:
        """Look at the next image; its pictures are copied if it is kept."""
        excess = image.score - self._threshold
        if image.is_rejected(self._threshold):
            own = self._false_alarms if image.kind == GOOD else self._sure_defects
        else:
            own = self._sure_good if image.kind == GOOD else self._missed
        wanted = [
            (top, (rank, -self._seen))
            for top, rank in ((own, abs(excess)), (self._borderline, -abs(excess)))
            if top.wants((rank, -self._seen))
        ]
        self._seen += 1
        if wanted:
            kept = _own_copy(image)
            for top, rank in wanted:
                top.keep(rank, kept)

    def examples(self) -> dict[str, list[InspectedImage]]:
        """The kept images so far, by "worst", "borderline" and "best", at most ``count`` each."""
        lists = {
            "worst": _in_turn(self._missed, self._false_alarms),
            "borderline": self._borderline.ranked(),
            "best": _in_turn(self._sure_defects, self._sure_good),
        }
        listed: set[int] = set()
        picked = {}
        for name, images in lists.items():
            fresh = [image for image in images if id(image) not in listed][: self._count]
            listed.update(id(image) for image in fresh)
            picked[name] = fresh
        return picked


def pick_examples(
    images: Iterable[InspectedImage], threshold: float, count: int = 6
) -> dict[str, list[InspectedImage]]:
    """The worst, borderline and best of the images, as `ExampleKeeper` defines them."""
    keeper = ExampleKeeper(threshold, count)
    for image in images:
        keeper.add(image)
    return keeper.examples()


class _Top:
    """The images of highest rank, at most ``size`` of them."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, int], InspectedImage]] = []

    def wants(self, rank: tuple[float, int]) -> bool:
        return len(self._heap) < self._size or rank > self._heap[0][0]

    def keep(self, rank: tuple[float, int], image: InspectedImage) -> None:
        heapq.heappush(self._heap, (rank, image))
        if len(self._heap) > self._size:
            heapq.heappop(self._heap)

    def ranked(self) -> list[InspectedImage]:
        return [image for _, image in sorted(self._heap, key=lambda item: item[0], reverse=True)]


def _in_turn(first: _Top, second: _Top) -> list[InspectedImage]:
    pairs = zip_longest(first.ranked(), second.ranked())
    return [image for image in chain.from_iterable(pairs) if image is not None]


def _own_copy(image: InspectedImage) -> InspectedImage:
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
