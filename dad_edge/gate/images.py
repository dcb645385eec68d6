"""What the accuracy gate compares on: the images of a data set, or drawn parts of the demo."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.config import GOOD
from dad_edge.data.layouts import list_items
from dad_edge.data.truth import read_truth
from dad_edge.errors import DataError
from dad_edge.image.preprocess import read_frame

DEMO_PAIRS = 12


@dataclass(frozen=True, slots=True)
class Sample:
    """One image to compare on."""

    name: str
    kind: str
    """`good`, or the name of the defect kind."""
    frame: NDArray[np.uint8]
    """(H,W,3) uint8 BGR."""
    mask: NDArray[np.uint8] | None
    """(H,W) uint8, above 0 on the true defect; None where nothing is marked."""

    @property
    def defective(self) -> bool:
        return self.kind != GOOD


@dataclass(frozen=True, slots=True)
class Images:
    """Images to compare on."""

    source: str
    """Where they come from, in words."""
    ranked: bool
    """Whether the bundle was made for this product, so that AUROC and PRO mean something."""
    kinds: tuple[str, ...]
    """Kind of every image."""
    load: Callable[[int], Sample]
    """The image at a position."""

    def __len__(self) -> int:
        return len(self.kinds)

    def read(self) -> Iterator[Sample]:
        """All images in order."""
        return (self.load(index) for index in range(len(self)))


def data_images(root: Path) -> Images:
    """The test images of a data set, or its normal images where it has none.

    Raises:
        DataError: no layout fits.
    """
    try:
        items = list_items(root, "test")
    except DataError:
        items = list_items(root, "train")

    def load(index: int) -> Sample:
        item = items[index]
        frame = read_frame(item.path)
        return Sample(item.name, item.kind, frame, read_truth(item, frame))

    return Images(root.resolve().name, True, tuple(item.kind for item in items), load)


def demo_images(bundle: Bundle, pairs: int | None = None) -> Images:
    """Drawn parts of the demo product, good ones and defective ones in turn.

    Args:
        bundle: that is to be judged.
        pairs: number of each; `DEMO_PAIRS` if None.
    """
    from dad_edge.data.demo import KINDS, PRODUCT, draw, part_seed

    kinds = [k for i in range(pairs or DEMO_PAIRS) for k in (GOOD, KINDS[i % len(KINDS)])]

    def load(index: int) -> Sample:
        kind, part = kinds[index], index // 2
        drawn = draw(part_seed("test", 1, part), kind)
        return Sample(f"{kind}/{part}", kind, drawn.image, drawn.mask if kind != GOOD else None)

    ranked = bundle.manifest.class_name == PRODUCT
    return Images("the demo product", ranked, tuple(kinds), load)


def images_of(bundle: Bundle, data: Path | None) -> Images:
    """Those of a data set, or parts of the demo product where none is named.

    Raises:
        DataError: no layout fits.
    """
    return data_images(data) if data else demo_images(bundle)
