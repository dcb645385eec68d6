"""The single definition of how a frame becomes model input.

Training, calibration, the CPU runtime and the CUDA kernel agree with this module by test.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DataError
from dad_edge.machine.noise import NOISE

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")


def read_frame(path: Path) -> NDArray[np.uint8]:
    """Read an image file as a frame.

    Grey images are repeated to three channels, transparency is dropped, and 16-bit images are
    scaled by 1/257, never by their content.

    Returns:
        (H,W,3) uint8, BGR.

    Raises:
        DataError: the file is missing, truncated or not an image.
    """
    try:
        encoded = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise DataError(
            f"cannot read image {path}: {error.strerror}.", "check the path and its permissions"
        ) from error
    if encoded.size == 0:
        raise DataError(f"image {path} is empty (0 bytes).", "copy the file again or remove it")
    if _is_truncated(encoded.tobytes()):
        raise DataError(
            f"image {path} is truncated: its end is missing.", "copy the file again or remove it"
        )
    try:
        with NOISE.dropped():
            image = cv2.imdecode(encoded, cv2.IMREAD_UNCHANGED)
    except cv2.error:
        image = None
    if image is None:
        raise DataError(
            f"image {path} is damaged or not an image.",
            f"copy the file again or remove it; readable are {' '.join(IMAGE_SUFFIXES)}",
        )
    return as_frame(image, str(path))


def _is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; decoders may fill the missing part silently."""
    if content.startswith(b"\xff\xd8"):
        last_scan = content.rfind(b"\xff\xda")
        return b"\xff\xd9" not in content[last_scan:]
    return content.startswith(b"\x89PNG") and b"\0\0\0\0IEND" not in content


def as_frame(image: NDArray[Any], name: str) -> NDArray[np.uint8]:
    """Check an array from a file or camera and give it the layout of a frame.

    Args:
        image: (H,W), (H,W,1), (H,W,3) BGR or (H,W,4) BGRA; uint8 or uint16.
        name: where it came from, for the error's sentence.

    Returns:
        (H,W,3) uint8, BGR, contiguous.

    Raises:
        DataError: no pixels, another type or another number of channels.
    """
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or 0 in image.shape or image.shape[2] not in (1, 3, 4):
        raise DataError(
            f"{name}: expected an image of 1, 3 or 4 channels, got shape {image.shape}.",
            "give grey, BGR or BGRA images",
        )
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if image.dtype != np.uint8:
        raise DataError(
            f"{name}: expected 8-bit or 16-bit pixels, got {image.dtype}.",
            "save the images as 8-bit PNG",
        )
    channels = image.shape[2]
    bgr = image[:, :, :3] if channels >= 3 else np.repeat(image, 3, axis=2)
    return np.ascontiguousarray(bgr)


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
    found = cover >= 0.5
    return found if found.any() or not marked.any() else cover >= cover.max()
