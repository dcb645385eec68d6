"""The single definition of how a frame becomes model input.

Training, calibration, the CPU runtime and the CUDA kernel agree with this module by test.
"""

from __future__ import annotations

import logging
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.config import BitDepth
from dad_edge.errors import DataError
from dad_edge.image.decode import open_picture, out_of_memory

NARROW_DEPTHS: tuple[BitDepth, ...] = (8, 10, 12, 14)
"""Bits of cameras that store their values in 16-bit files, without shifting them."""
CONVERT = "convert the images to unsigned 8-bit or 16-bit PNG, all of them by one fixed scale"

_READ_BITS = (1, 2, 4, 8, 10, 12, 14, 16)
_log = logging.getLogger(__name__)


def read_frame(
    path: Path | str, bit_depth: int | None = None, content: bytes | None = None
) -> NDArray[np.uint8]:
    """Read an image file as a frame.

    Grey images are repeated to three channels, transparency is dropped, and values are scaled by
    a constant, never by their content. `dad_edge.image.decode` says which files are read.

    Args:
        path: of a PNG, JPEG, BMP, TIFF, WebP or PNM picture.
        bit_depth: bits that the values of a 16-bit file use, from the model's settings; None for
            a model of 8-bit images, which takes 16-bit ones that use all their bits.
        content: of the file, where it was read already; `path` is its name then.

    Returns:
        (H,W,3) uint8, BGR, upright.

    Raises:
        DataError: the file is missing, damaged or not an image, or its values are not whole
            numbers from 0 to what `bit_depth` allows.
    """
    picture = open_picture(path, content)
    header = picture.header
    if header.number != "unsigned" or header.bits not in _READ_BITS:
        raise DataError(
            f"image {path} has {header.bits}-bit {header.number} values; unsigned 8-bit or 16-bit "
            "values are expected.",
            CONVERT,
        )
    if header.white_is_zero and header.bits > 8:
        raise DataError(
            f"image {path} is a {header.bits}-bit TIFF whose smallest value is white.",
            "save it with black as zero (photometric interpretation 1)",
        )
    if 8 < header.bits < 16:  # OpenCV fills 16 bits from a packed TIFF, and keeps PNM as it is
        bit_depth = header.bits if header.format == "PNM" else 16
    try:
        return as_frame(picture.pixels(), f"image {path}", bit_depth)
    except MemoryError as error:
        raise out_of_memory(path) from error


def as_frame(image: NDArray[Any], name: str, bit_depth: int | None = None) -> NDArray[np.uint8]:
    """Check an array from a file or camera and give it the layout of a frame.

    Args:
        image: (H,W), (H,W,1), (H,W,3) BGR or (H,W,4) BGRA; uint8 or uint16.
        name: where it came from, for the error's sentence.
        bit_depth: bits that 16-bit values use; None for all 16, of which fewer are refused.

    Returns:
        (H,W,3) uint8, BGR, contiguous.

    Raises:
        DataError: no pixels, another type or another number of channels, or values that do not
            fit `bit_depth`.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or 0 in image.shape or image.shape[2] not in (1, 3, 4):
        raise DataError(
            f"{name}: expected an image of 1, 3 or 4 channels, got shape {image.shape}.",
            "give grey, BGR or BGRA images",
        )
    channels = image.shape[2]
    colours = image[:, :, :3] if channels >= 3 else image
    if image.dtype == np.uint16:
        colours = _to_eight_bits(colours, name, bit_depth)
    elif image.dtype != np.uint8:
        raise DataError(
            f"{name}: expected 8-bit or 16-bit pixels, got {image.dtype}.",
            CONVERT,
        )
    bgr = colours if channels >= 3 else np.repeat(colours, 3, axis=2)
    return np.ascontiguousarray(bgr)


def depth_of(largest: int) -> BitDepth | None:
    """The smallest usual bit depth that holds a value; None where the value needs all 16 bits."""
    return next((bits for bits in NARROW_DEPTHS if largest < 2**bits), None)


def _to_eight_bits(values: NDArray[np.uint16], name: str, bit_depth: int | None) -> NDArray[Any]:
    """Scale 16-bit values by the bit depth that the model was trained with."""
    depth, largest = bit_depth or 16, int(values.max())
    white = 2**depth - 1
    if largest > white:
        raise DataError(
            f"{name} has a value of {largest}; the model was trained on images of {depth} bits, "
            f"whose largest is {white}.",
            f"set the camera to {depth} bits as in training, or train on images like this one",
        )
    used = depth_of(largest) or 16
    if bit_depth is None and used < depth and (values % 257).any():  # 8 bits, stretched to 16
        raise DataError(
            f"{name} uses {used} of 16 bits, and the model was trained on 8-bit images: as one of "
            "them it would be dark, and its score would mean nothing.",
            "save it with 8 bits as in training, or train on images of this camera",
        )
    if used < depth:
        _log.warning(
            "%s uses %d of %d bits: it is dark, or it comes from a camera of fewer bits than the "
            "training images, and then its score means nothing; train on images like it.",
            name,
            used,
            depth,
        )
    return _eight_bits(white)[values]


@cache
def _eight_bits(white: int) -> NDArray[np.uint8]:
    """The 8-bit value of every value up to white, rounded."""
    return ((np.arange(white + 1) * 255 + white // 2) // white).astype(np.uint8)


def resize(frame: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """Resize a frame to the model's square input.

    Area averaging where both sides shrink, bilinear with half-pixel centres otherwise; computed
    in float32 without rounding to whole grey values.

    Args:
        frame: (H,W,3) uint8.
        size: S in pixels.

    Returns:
        (S,S,3) float32 in [0,255], channel order unchanged.
    """
    return _resize_plane(frame.astype(np.float32), (size, size))


def _resize_plane(values: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    height, width = values.shape[:2]
    if (height, width) == shape:
        return values
    shrinks = height >= shape[0] and width >= shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(values, shape[::-1], interpolation=method), dtype=np.float32)


def to_image(
    frame: NDArray[np.uint8],
    size: int,
    value_range: tuple[float, float],
    *,
    scratch: NDArray[np.float32] | None = None,
    out: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Frame to model input: resize, BGR to RGB, scale 0..255 to `value_range`.

    Args:
        frame: (H,W,3) uint8, BGR, any size.
        size: S in pixels.
        value_range: value of 0 and value of 255.
        scratch: (H,W,3) that is overwritten; a new one if None.
        out: (3,S,S) that takes the result; a new one if None.

    Returns:
        (3,S,S) float32, RGB.
    """
    low, high = value_range
    if scratch is None:
        scratch = np.empty(frame.shape, np.float32)
    if out is None:
        out = np.empty((3, size, size), np.float32)
    np.copyto(scratch, frame)
    bgr_HWC = _resize_plane(scratch, (size, size))
    rgb_CHW = bgr_HWC.transpose(2, 0, 1)[::-1]
    np.multiply(rgb_CHW, np.float32((high - low) / 255.0), out=out)
    out += np.float32(low)
    return out


def to_frame(image: NDArray[np.float32], value_range: tuple[float, float]) -> NDArray[np.uint8]:
    """Model input or x̂0 back to a picture.

    Args:
        image: (3,S,S) float32, RGB, in `value_range`; values outside are clipped.
        value_range: value of 0 and value of 255.

    Returns:
        (S,S,3) uint8, BGR.
    """
    low, high = value_range
    grey = (image - low) * (255.0 / (high - low))
    return np.ascontiguousarray(
        np.clip(np.rint(grey), 0, 255).astype(np.uint8)[::-1].transpose(1, 2, 0)
    )


def to_mask(mask: NDArray[Any], size: int | tuple[int, int]) -> NDArray[np.bool_]:
    """Ground-truth mask at a map's size; a pixel counts when half of its area is marked.

    Args:
        mask: (H,W) or (H,W,C), non-zero where the defect is.
        size: S in pixels, or rows and columns of the map.

    Returns:
        (S,S) bool, or of that size. Marks that are too thin to fill half a pixel keep their
        strongest pixel.
    """
    plane = mask if mask.ndim == 2 else mask.max(axis=2)
    marked = (plane != 0).astype(np.float32)
    cover = _resize_plane(marked, (size, size) if isinstance(size, int) else size)
    covered = cover >= 0.5
    return covered if covered.any() or not marked.any() else cover >= cover.max()
