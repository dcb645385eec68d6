"""How many bits the values of a data set's 16-bit images use: a property of the set, found once.

A camera of 12 bits stores 0 to 4095 in files that could hold 65535. One image cannot tell whether
it is dark or comes from such a camera; all normal images together can.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dad_edge.config import BitDepth, ModelConfig
from dad_edge.data.layouts import list_items
from dad_edge.image.decode import open_picture
from dad_edge.image.preprocess import depth_of

_log = logging.getLogger(__name__)


def with_depth(model: ModelConfig, root: Path) -> ModelConfig:
    """The model's settings with the bit depth of a data set's normal images.

    Args:
        model: settings; a depth that they name already is kept.
        root: folder of the data set.

    Raises:
        DataError: no layout fits, or an image cannot be read.
    """
    if model.bit_depth is not None:
        return model
    return replace(model, bit_depth=find_depth([item.path for item in list_items(root, "train")]))


def find_depth(paths: Sequence[Path]) -> BitDepth | None:
    """The smallest bit depth of cameras that holds every value of the 16-bit images.

    A warning says what was found, and names sets in which 8-bit and 16-bit images are mixed.

    Returns:
        8, 10, 12 or 14; 16 where all 16 bits are used; None where there are no 16-bit images.

    Raises:
        DataError: an image cannot be read.
    """
    deep = [path for path in paths if open_picture(path).header.bits == 16]
    if not deep:
        return None
    if len(deep) < len(paths):
        _log.warning(
            "%d of %d images are of 16 bits, such as %s; a model expects images of one kind.",
            len(deep),
            len(paths),
            deep[0],
        )
    largest = 0
    for path in deep:
        largest = max(largest, int(open_picture(path).pixels().max()))
        if depth_of(largest) is None:
            return 16
    depth = depth_of(largest)
    _log.warning(
        "no value of the %d images of 16 bits exceeds %d: they are read as images of %d bits; "
        "set bit_depth = 16 in the recipe if their camera uses all 16.",
        len(deep),
        largest,
        depth,
    )
    return depth
