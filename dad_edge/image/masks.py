"""The one reader of masks: which pixels a picture marks, however it was stored."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DataError
from dad_edge.image.decode import open_picture

Mask = NDArray[np.bool_]

LOSSY_SHARE = 0.5
"""Share of full white from which a pixel of a lossy picture counts as marked."""

_log = logging.getLogger(__name__)


def read_mask(path: Path) -> Mask:
    """Read which pixels a mask marks: every label but 0, whatever the depth and colours.

    In a picture with a palette the number counts, not the colour; number 0 marks nothing. In a
    picture that is partly transparent, the visible pixels that are not black are marked, or all
    visible ones where they are all black. Transparency that is the same everywhere says nothing.
    A lossy picture (JPEG) has blurred values: those above half of full white are marked, and a
    warning names the picture.

    Returns:
        (H,W) bool, upright as `read_frame` reads it.

    Raises:
        DataError: it cannot be read.
    """
    picture = open_picture(path)
    labels, header = picture.labels(), picture.header
    if labels.ndim not in (2, 3) or labels.shape[2:] not in ((), (1,), (2,), (3,), (4,)):
        raise DataError(f"mask {path} has the shape {labels.shape}.", "save it as a grey 8-bit PNG")
    planes = labels[:, :, None] if labels.ndim == 2 else labels
    if header.lossy:
        _log.warning(
            "mask %s is a lossy picture (%s); pixels above half of full white count as marked.",
            path,
            header.format,
        )
        return np.asarray((planes[:, :, :3] > LOSSY_SHARE * _full(planes)).any(axis=2))
    if header.white_is_zero and header.bits == 16:
        planes = _full(planes) - planes
    if header.colour == "indexed":
        return np.asarray(planes[:, :, 0] != 0)
    painted = (planes[:, :, : 3 if planes.shape[2] > 2 else 1] != 0).any(axis=2)
    if planes.shape[2] in (2, 4):
        visible = planes[:, :, -1] != 0
        if not visible.all() and visible.any():
            return np.asarray(visible & painted if (visible & painted).any() else visible)
    return np.asarray(painted)


def _full(planes: NDArray[Any]) -> Any:
    return np.iinfo(planes.dtype).max if planes.dtype.kind in "iu" else 1.0
