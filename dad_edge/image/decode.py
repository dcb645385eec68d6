"""The one place where a picture file becomes pixels: whole, upright, unscaled.

OpenCV decodes. Pillow is slower with the same pixels (milliseconds of OpenCV and of Pillow at
1024×1024: JPEG 5 and 11, WebP 24 and 44, TIFF 17 and 23, PNG 28 and 30), and it reads 16-bit
colour as 8 bits. OpenCV's flags treat orientations differently by format and version. So OpenCV is
asked for the stored picture, and the orientation is applied here. Every version of OpenCV itself
turns a TIFF, and nothing else.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.BmpImagePlugin import BmpImageFile
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from dad_edge.errors import DataError, UsageError
from dad_edge.files import read_whole
from dad_edge.image.header import Header, read_header
from dad_edge.machine.noise import NOISE

LARGEST_MEGAPIXELS = 178.0
"""Pictures that declare more are refused before they are decoded."""
LIMIT_VARIABLE = "DAD_EDGE_MAX_MEGAPIXELS"
"""Environment variable that sets another limit."""

Pixels = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture file in memory, checked by its header, not decoded."""

    path: Path
    content: bytes
    header: Header

    def pixels(self) -> Pixels:
        """(H,W) or (H,W,C) as stored and upright; BGR or BGRA.

        Raises:
            DataError: the file is damaged.
        """
        image = _decode(self.content, self.path)
        # Every version of OpenCV has turned a TIFF already; tests hold that.
        return image if self.header.format == "TIFF" else turn(image, self.header.orientation)

    def labels(self) -> Pixels:
        """The pixels, or for a picture with a palette its numbers and not its colours: (H,W).

        Raises:
            DataError: the file is damaged.
        """
        few_bits = self.header.format == "TIFF" and self.header.bits in (2, 4)
        if self.header.colour != "indexed" and not few_bits:
            return self.pixels()
        openers: dict[str, Callable[[BinaryIO], ImageFile]] = {
            "PNG": PngImageFile,
            "BMP": BmpImageFile,
            "TIFF": TiffImageFile,
        }
        try:
            image = openers[self.header.format](io.BytesIO(self.content))
            # Newer versions of Pillow turn a TIFF as they load it, and forget its orientation.
            image.load()
            turned = self.header.format == "TIFF" and image.getexif().get(0x112, 1) == 1
            labels = np.asarray(image)
        except Exception as error:  # a damaged file ends in any kind of error
            raise _damaged(self.path) from error
        return labels if turned else turn(labels, self.header.orientation)


def open_picture(path: Path | str, content: bytes | None = None) -> Picture:
    """Read a picture file and check what it declares.

    The content tells the format, not the suffix. EXIF and TIFF orientations are
    followed. A JPEG or PNG without its end marker is refused, as decoders fill what is missing.
    A file of several pictures (pages, animation) is refused; reduced copies beside the first
    picture are not counted. Black pictures are read like all others.

    Args:
        path: of the file.
        content: of the file, where it was read already; `path` is its name then.

    Raises:
        DataError: the file is missing, truncated or too large, or its format is not read.
    """
    path = Path(path)
    if content is None:
        content = _read(path)
    if not content:
        raise DataError(f"image {path} is empty (0 bytes).", "copy the file again or remove it")
    return Picture(path, content, _checked_header(content, path))


def turn(pixels: Pixels, orientation: int) -> Pixels:
    """Turn a stored picture so that it stands upright.

    Args:
        pixels: (H,W) or (H,W,C).
        orientation: 1 to 8 as EXIF and TIFF number them; 5 to 8 exchange rows and columns.
    """
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _read(path: Path) -> bytes:
    try:
        return read_whole(path)
    except OSError as error:
        raise DataError(
            f"cannot read image {path}: {error.strerror}.", "check the path and its permissions"
        ) from error


def _checked_header(content: bytes, path: Path) -> Header:
    if _is_truncated(content):
        raise DataError(
            f"image {path} is truncated: its end is missing.", "copy the file again or remove it"
        )
    header = read_header(content, str(path))
    if header.width < 1 or header.height < 1:
        raise _damaged(path)
    limit = _limit_megapixels()
    if header.width * header.height > limit * 1e6:
        raise DataError(
            f"image {path} declares {header.width}×{header.height} pixels, more than the "
            f"{limit:g} megapixels that are read.",
            f"cut it into smaller images, or set {LIMIT_VARIABLE} to a higher number",
        )
    if header.pages > 1:
        raise DataError(
            f"image {path} holds {header.pages} pictures; one is expected.",
            "save every picture as a file of its own",
        )
    if header.colour == "unknown":
        raise DataError(
            f"image {path} is a TIFF of raw sensor data or of colours that are not grey or RGB.",
            "convert it to an 8-bit or 16-bit grey or RGB image",
        )
    return header


def _limit_megapixels() -> float:
    text = os.environ.get(LIMIT_VARIABLE)
    if text is None:
        return LARGEST_MEGAPIXELS
    try:
        limit = float(text)
    except ValueError:
        limit = 0
    if not limit > 0:
        raise UsageError(
            f"{LIMIT_VARIABLE} is '{text}', not a positive number.",
            f"set it to a number of megapixels such as {LARGEST_MEGAPIXELS:g}, or unset it",
        )
    return limit


def _is_truncated(content: bytes) -> bool:
    """Whether a JPEG or PNG lacks its end marker; decoders may fill the missing part silently."""
    if content.startswith(b"\xff\xd8\xff"):
        last_scan = content.rfind(b"\xff\xda")
        return b"\xff\xd9" not in content[last_scan:]
    return content.startswith(b"\x89PNG") and b"\0\0\0\0IEND" not in content


def _decode(content: bytes, path: Path) -> Pixels:
    try:
        with NOISE.dropped():
            image = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_UNCHANGED)
    except MemoryError as error:
        raise out_of_memory(path) from error
    except cv2.error as error:
        if error.code == cv2.Error.StsNoMem:
            raise out_of_memory(path) from error
        image = None
    if image is None:
        raise _damaged(path)
    return np.asarray(image)


def _damaged(path: Path) -> DataError:
    return DataError(
        f"image {path} is damaged or not an image.",
        "copy the file again or remove it; PNG, JPEG, BMP, TIFF, WebP and PNM pictures are read",
    )


def out_of_memory(path: Path | str) -> DataError:
    """The error for a picture that does not fit into memory."""
    return DataError(
        f"the memory is not enough to read image {path}.",
        "close other programs, or cut the image into smaller ones",
    )
