"""The images that the accuracy gate compares on: a data set, completed where needed, or the demo.

An engine is judged on good parts and on marked defects. Few users have defects, and fewer have
marked them: where a data set lacks them, synthetic anomalies are drawn on its good parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.config import GOOD
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.data.truth import read_truth, truth_on
from dad_edge.errors import DataError, printable
from dad_edge.gate.synthetic import with_anomaly
from dad_edge.image.framing import plan_views
from dad_edge.image.preprocess import read_frame

DEMO_PAIRS = 12
FEWEST = 10
"""Fewest good images, and fewest defective ones, that an engine is judged on. AUROC compares every
good image with every defective one. With fewer than 10 × 10 pairs a single pair moves it by more
than a point, twice what INT8 may lose, and it says little that no pair moved."""
DRAWN = 24
"""Synthetic anomalies that stand in for defects; as many as the demo has images."""
SYNTHETIC = "synthetic"
"""Kind of a good part with a synthetic anomaly."""


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


def images_of(bundle: Bundle, data: Path | None, normal: Path | None = None) -> Images:
    """The images to judge a bundle's engines on.

    Args:
        bundle: a checked bundle.
        data: data set, or folder of good parts; parts of the demo product if None and `normal` is
            None too, or if the bundle is that of the demo product.
        normal: folder of good parts, in place of a data set or to add to it.

    Returns:
        The images of the data set. Where fewer than `FEWEST` are good, those of its training split
        or of `normal` are added; where fewer than `FEWEST` have a marked defect, `DRAWN` synthetic
        anomalies are drawn on the good ones.

    Raises:
        DataError: no layout fits, or an image cannot be read.
    """
    if data is None and (normal is None or is_demo(bundle)):
        return demo_images(bundle)
    root = data or normal
    assert root is not None
    items = _items(root)
    lacking = FEWEST - sum(item.kind == GOOD for item in items)
    if lacking > 0:
        items += _spread(_normal_items(normal or root, items), lacking)
    images = _images(printable(root.resolve().name), items, bundle.model.bit_depth)
    return images if _is_marked(images, bundle) else _with_synthetic(images, bundle)


def data_images(root: Path, bit_depth: int | None = None) -> Images:
    """The test images of a data set as they are, or its normal images where it has none.

    Args:
        root: folder of the data set.
        bit_depth: of the model that is judged.

    Raises:
        DataError: no layout fits.
    """
    return _images(printable(root.resolve().name), _items(root), bit_depth)


def _items(root: Path) -> list[Item]:
    try:
        return list(list_items(root, "test"))
    except DataError:
        return list(list_items(root, "train"))


def _normal_items(root: Path, known: Sequence[Item]) -> list[Item]:
    """Good parts of the training split that are not known yet; none where there is no split."""
    paths = {item.path.resolve() for item in known}
    try:
        return [item for item in list_items(root, "train") if item.path.resolve() not in paths]
    except DataError:
        return []


def _spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most so many items, evenly spread over their order."""
    step = max(1, len(items) // count)
    return list(items[::step][:count])


def _images(source: str, items: Sequence[Item], bit_depth: int | None) -> Images:
    def load(index: int) -> Sample:
        item = items[index]
        frame = read_frame(item.path, bit_depth)
        return Sample(item.name, item.kind, frame, read_truth(item, frame))

    return Images(source, True, tuple(item.kind for item in items), load)


def _is_marked(images: Images, bundle: Bundle) -> bool:
    """Whether enough images have a defect that is marked where the bundle inspects them."""
    marked = 0
    for index, kind in enumerate(images.kinds):
        if kind == GOOD:
            continue
        sample = images.load(index)
        if sample.mask is not None:
            score_map = np.empty(plan_views(sample.frame.shape, bundle.model).shape, np.float32)
            marked += bool(truth_on(score_map, sample.mask, bundle.ignore).any())
        if marked >= FEWEST:
            return True
    return False


def _with_synthetic(images: Images, bundle: Bundle) -> Images:
    """The images, with synthetic anomalies on the good ones of them in turn."""
    good = [index for index, kind in enumerate(images.kinds) if kind == GOOD]
    if not good:
        return images

    def load(index: int) -> Sample:
        number = index - len(images)
        if number < 0:
            return images.load(index)
        part = images.load(good[number % len(good)])
        frame, mask = with_anomaly(part.frame, bundle, number)
        return Sample(f"{SYNTHETIC}/{number:02} on {part.name}", SYNTHETIC, frame, mask)

    kinds = (*images.kinds, *[SYNTHETIC] * DRAWN)
    source = f"{images.source} with {DRAWN} synthetic anomalies"
    return Images(source, images.ranked, kinds, load)


def is_demo(bundle: Bundle) -> bool:
    """Whether a bundle was made for the demo product."""
    from dad_edge.data.demo import PRODUCT

    return bundle.manifest.class_name == PRODUCT


def demo_images(bundle: Bundle, pairs: int | None = None) -> Images:
    """Drawn parts of the demo product, good ones and defective ones in turn.

    Args:
        bundle: the bundle that is to be judged.
        pairs: number of each; `DEMO_PAIRS` if None.
    """
    from dad_edge.data.demo import KINDS, draw, part_seed

    kinds = [k for i in range(pairs or DEMO_PAIRS) for k in (GOOD, KINDS[i % len(KINDS)])]

    def load(index: int) -> Sample:
        kind, part = kinds[index], index // 2
        drawn = draw(part_seed("test", 1, part), kind)
        return Sample(f"{kind}/{part}", kind, drawn.image, drawn.mask if kind != GOOD else None)

    return Images("the demo product", is_demo(bundle), tuple(kinds), load)
