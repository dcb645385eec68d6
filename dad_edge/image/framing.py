"""Which part of a frame each view shows, where it lies on the map, and what is not inspected.

The one definition for training, calibration and the line. A view is what the networks see at once.
Tiles lie on a canvas: the frame itself, or with `keep_aspect` the frame continued to the right and
below by its border pixels, so that nothing is stretched. The merged map covers exactly the frame.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.config import FramingConfig, ModelConfig
from dad_edge.errors import DataError, UsageError
from dad_edge.image.masks import Mask, read_mask

_log = logging.getLogger(__name__)

IGNORE = "ignore.png"
"""Picture in a run or a bundle, non-zero where nothing is inspected; editable by the operator."""

Box = tuple[slice, slice]


@dataclass(frozen=True, slots=True)
class ViewPlan:
    """Where the views of frames of one size lie."""

    canvas: tuple[int, int]
    """Rows and columns of the frame with its padding, in frame pixels."""
    shape: tuple[int, int]
    """Rows and columns of the merged map, which covers the frame without padding."""
    frame_boxes: tuple[Box, ...]
    """Every view on the canvas."""
    map_boxes: tuple[Box, ...]
    """Every view on the map of the canvas, (S,S) each."""
    weights: tuple[NDArray[np.float64], ...]
    """(S,S) each; where views overlap they ramp linearly, and they add up to 1 everywhere."""


@lru_cache(maxsize=16)
def plan_views(frame_shape: tuple[int, ...], model: ModelConfig) -> ViewPlan:
    """Lay the views over a frame.

    Args:
        frame_shape: (H,W,…) of the frame.
        model: image size S and framing.
    """
    size, framing = model.image_size, model.framing
    height, width = frame_shape[:2]
    starts = [_starts(count, size, framing.overlap) for count in framing.tiles]
    whole = (starts[0][-1] + size, starts[1][-1] + size)
    canvas, shape = (height, width), whole
    if framing.keep_aspect:
        scale = min(whole[0] / height, whole[1] / width)
        canvas = (max(height, round(whole[0] / scale)), max(width, round(whole[1] / scale)))
        shape = (max(1, round(height * scale)), max(1, round(width * scale)))
    on_map = [[slice(start, start + size) for start in axis] for axis in starts]
    on_canvas = [
        [_scaled(span, length, total) for span in axis]
        for axis, length, total in zip(on_map, canvas, whole, strict=True)
    ]
    ramps = [_ramps(axis, size) for axis in starts]
    return ViewPlan(
        canvas,
        shape,
        tuple((y, x) for y in on_canvas[0] for x in on_canvas[1]),
        tuple((y, x) for y in on_map[0] for x in on_map[1]),
        tuple(np.outer(y, x) for y in ramps[0] for x in ramps[1]),
    )


def is_plain(framing: FramingConfig) -> bool:
    """Whether the only view is the frame itself."""
    return framing.tiles == (1, 1) and not framing.keep_aspect


def views(frame: NDArray[np.uint8], plan: ViewPlan) -> list[NDArray[np.uint8]]:
    """The views of a frame (H,W,3) that the plan is for: (h,w,3) each, in the frame's pixels."""
    canvas = on_canvas(frame, plan)
    return [canvas[box] for box in plan.frame_boxes]


def on_canvas(frame: NDArray[np.uint8], plan: ViewPlan) -> NDArray[np.uint8]:
    """The frame with its padding: border pixels repeated to the right and below."""
    below, right = (plan.canvas[axis] - frame.shape[axis] for axis in (0, 1))
    if not below and not right:
        return frame
    return np.pad(frame, ((0, below), (0, right), (0, 0)), mode="edge")


def merge(parts: NDArray[np.float32], plan: ViewPlan) -> NDArray[np.float32]:
    """One map from the maps of all views, its padding cut off.

    Args:
        parts: (V,…,S,S) in the order of the views.
        plan: of the frame.

    Returns:
        (…,h,w) with (h,w) the plan's shape.
    """
    rows, columns = (plan.map_boxes[-1][axis].stop for axis in (0, 1))
    whole = np.zeros((*parts.shape[1:-2], rows, columns), np.float64)
    for part, box, weight in zip(parts, plan.map_boxes, plan.weights, strict=True):
        whole[(..., *box)] += part * weight
    return np.ascontiguousarray(whole[..., : plan.shape[0], : plan.shape[1]], np.float32)


def ignored_at(ignore: Mask | None, shape: tuple[int, int]) -> Mask:
    """The ignore mask at the size of a map, by its nearest pixels; all False where there is none.

    Raises:
        DataError: it leaves nothing to inspect.
    """
    if ignore is None:
        return np.zeros(shape, bool)
    scaled = scaled_mask(ignore, shape)
    if scaled.all():
        raise DataError(
            f"the ignore mask leaves nothing of a {shape[0]}×{shape[1]} map to inspect.",
            "leave the inspected part of the mask black",
        )
    return scaled


def scaled_mask(mask: Mask, shape: tuple[int, int]) -> Mask:
    """A mask at another size, by its nearest pixels."""
    pixels = mask.astype(np.uint8)
    scaled = cv2.resize(pixels, shape[::-1], interpolation=cv2.INTER_NEAREST_EXACT)
    return np.asarray(scaled, bool)


def split_mask(mask: Mask, plan: ViewPlan, outside: bool) -> list[Mask]:
    """Cut a mask of the merged map into the views.

    Args:
        mask: of the plan's shape.
        plan: of the frame.
        outside: value of the padding.

    Returns:
        (S,S) bool for every view.
    """
    rows, columns = (plan.map_boxes[-1][axis].stop for axis in (0, 1))
    whole = np.full((rows, columns), outside)
    whole[: plan.shape[0], : plan.shape[1]] = mask
    return [whole[box] for box in plan.map_boxes]


def read_ignore(path: Path) -> Mask:
    """Read an ignore mask: (H,W) bool of any size, True where nothing is inspected.

    Raises:
        DataError: it is not a picture, or it leaves nothing to inspect.
    """
    mask = read_mask(path)
    if mask.all():
        raise DataError(
            f"the ignore mask {path} leaves nothing to inspect.",
            "leave the inspected part of the mask black",
        )
    if not mask.any():
        _log.warning("the ignore mask %s marks nothing: the whole frame is inspected.", path)
    return mask


def ignore_in(folder: Path) -> Mask | None:
    """The ignore mask of a run or a bundle, if it has one."""
    path = folder / IGNORE
    if os.path.lexists(path):  # also a link that leads nowhere, which is refused
        return read_ignore(path)
    for other in sorted(folder.glob("[iI][gG][nN][oO][rR][eE].*")):
        _log.warning("%s is not read; the ignore mask is called %s.", other, IGNORE)
    return None


def choose_framing(framing: FramingConfig, tiles: str | None, keep_aspect: bool) -> FramingConfig:
    """The framing of a recipe with the options of the command line.

    Raises:
        UsageError: `tiles` is not two numbers such as 2x3, or one is not positive.
    """
    changes: dict[str, Any] = {"keep_aspect": True} if keep_aspect else {}
    if tiles is not None:
        numbers = re.fullmatch(r"(\d+)x(\d+)", tiles)
        if not numbers:
            raise UsageError(f"'{tiles}' is not rows x columns.", "write 2x3 for two rows of three")
        changes["tiles"] = (int(numbers[1]), int(numbers[2]))
    return replace(framing, **changes)


def _starts(count: int, size: int, overlap: float) -> list[int]:
    """First map pixel of every tile along one side."""
    stride = size - round(size * overlap)
    return [index * stride for index in range(count)]


def _scaled(span: slice, length: int, total: int) -> slice:
    """A span of a side of `total` map pixels on the same side of `length` frame pixels."""
    start = min(round(span.start * length / total), length - 1)
    return slice(start, max(round(span.stop * length / total), start + 1))


def _ramps(starts: Iterable[int], size: int) -> list[NDArray[np.float64]]:
    """Weight of every tile along one side, (S,) each."""
    starts = list(starts)
    overlap = size - (starts[1] - starts[0]) if len(starts) > 1 else 0
    rising = (np.arange(overlap) + 0.5) / max(overlap, 1)
    ramps = [np.ones(size) for _ in starts]
    for before, after in pairwise(ramps):
        before[size - overlap :] = 1 - rising
        after[:overlap] = rising
    return ramps
