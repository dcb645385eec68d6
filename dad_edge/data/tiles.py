"""How many tiles the frames of a data set want: long parts are not squeezed into one square."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median

from dad_edge.config import ModelConfig
from dad_edge.data.layouts import list_items
from dad_edge.image.decode import open_picture

MOST_TILES = 4
"""Tiles along the long side at most; each costs the time of a frame."""
TURNED = range(5, 9)
"""EXIF orientations that make rows of columns."""


def with_tiles(model: ModelConfig, root: Path) -> ModelConfig:
    """The model's settings with the tiles that fit the shape of a data set's normal images.

    Args:
        model: settings, whose tiles nobody chose.
        root: folder of the data set.

    Raises:
        DataError: no layout fits, or an image cannot be read.
    """
    tiles = find_tiles([item.path for item in list_items(root, "train")])
    return replace(model, framing=replace(model.framing, tiles=tiles))


def find_tiles(paths: Sequence[Path]) -> tuple[int, int]:
    """As many tiles along the long side as times it holds the short one, in the median image.

    Returns:
        Rows and columns; one of them is 1.

    Raises:
        DataError: an image cannot be read.
    """
    shape = median(_height_to_width(path) for path in paths)
    if shape >= 1:
        return min(int(shape), MOST_TILES), 1
    return 1, min(int(1 / shape), MOST_TILES)


def _height_to_width(path: Path) -> float:
    header = open_picture(path).header
    upright = header.height / header.width
    return 1 / upright if header.orientation in TURNED else upright
