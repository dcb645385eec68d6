"""Picture files as other programs write them: every orientation, TIFF tag by tag, unusual masks."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from PIL import Image

ORIENTED = ("JPEG", "PNG", "WEBP", "TIFF")
"""Formats, as Pillow names them, that carry an orientation."""


def stored(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as a file of that orientation stores it: the inverse of showing it."""
    turned = {
        1: picture,
        2: picture[:, ::-1],
        3: picture[::-1, ::-1],
        4: picture[::-1],
        5: picture.swapaxes(0, 1),
        6: np.rot90(picture, 1),
        7: picture[::-1, ::-1].swapaxes(0, 1),
        8: np.rot90(picture, -1),
    }
    return np.ascontiguousarray(turned[orientation])


def oriented(picture: np.ndarray, file_format: str, orientation: int) -> bytes:
    """A file that a viewer shows as the picture, stored in another orientation.

    Args:
        picture: (H,W) or (H,W,3) RGB.
        file_format: one of `ORIENTED`.
        orientation: 1 to 8.
    """
    image, file = Image.fromarray(stored(picture, orientation)), io.BytesIO()
    exif = Image.Exif()
    exif[0x112] = orientation
    if file_format == "TIFF":
        image.save(file, file_format, tiffinfo={274: orientation})
    elif file_format == "JPEG":
        image.save(file, file_format, exif=exif, quality=100, subsampling=0)
    else:
        image.save(file, file_format, exif=exif, lossless=True)
    return file.getvalue()


def tiff(
    values: np.ndarray, tags: Mapping[int, Sequence[int]] | None = None, start: int = 0
) -> bytes:
    """An uncompressed TIFF of one strip.

    Args:
        values: (H,W) or (H,W,C) of any number type.
        tags: 16-bit tags that are added or replace those that describe the values.
        start: where the bytes will lie in a file of several pages.
    """
    height, width = values.shape[:2]
    channels = values.shape[2] if values.ndim == 3 else 1
    data = values.tobytes()
    number = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    described = {
        256: [width],
        257: [height],
        258: [values.dtype.itemsize * 8] * channels,
        259: [1],
        262: [2 if channels == 3 else 1],
        277: [channels],
        278: [height],
        339: [number] * channels,
    }
    described.update({tag: list(v) for tag, v in (tags or {}).items()})
    count = len(described) + 2
    outside = start + 8 + 2 + 12 * count + 4
    extra = b""
    entries = {}
    for tag, numbers in described.items():
        raw = struct.pack(f"<{len(numbers)}H", *numbers)
        if len(raw) > 4:
            raw, extra = struct.pack("<I", outside + len(extra)), extra + raw
        entries[tag] = struct.pack("<HHI", tag, 3, len(numbers)) + raw.ljust(4, b"\0")
    entries[273] = struct.pack("<HHII", 273, 4, 1, outside + len(extra))
    entries[279] = struct.pack("<HHII", 279, 4, 1, len(data))
    directory = b"".join(entries[tag] for tag in sorted(entries))
    head = b"II*\0" + struct.pack("<IH", 8, count)
    return head + directory + b"\0\0\0\0" + extra + data


def two_pages(first: np.ndarray, second: np.ndarray, tags: Mapping[int, Sequence[int]]) -> bytes:
    """A TIFF of two pages; the tags are those of the second."""
    page = tiff(first)
    link = 10 + 12 * int.from_bytes(page[8:10], "little")
    page = page[:link] + struct.pack("<I", len(page) + 8) + page[link + 4 :]
    return page + tiff(second, tags, start=len(page))


def indexed(labels: np.ndarray, palette: Sequence[int], file_format: str = "PNG") -> bytes:
    """A picture with a palette: labels (H,W) uint8, palette of R, G, B values."""
    image, file = Image.fromarray(labels), io.BytesIO()
    image = Image.frombytes("P", image.size, labels.tobytes())
    image.putpalette([*palette, *[0] * (768 - len(palette))])
    image.save(file, file_format)
    return file.getvalue()


def encoded(pixels: np.ndarray, suffix: str, orientation: int = 1) -> bytes:
    """A lossless file that a viewer shows as the pixels.

    Args:
        pixels: (H,W) or (H,W,3) BGR, uint8 or uint16.
        suffix: .png, .tif, .webp, .bmp, .pgm or .ppm; the last three know no orientation.
        orientation: 1 to 8.
    """
    turned = stored(pixels, orientation)
    if suffix == ".tif":
        rgb = turned if turned.ndim == 2 else np.ascontiguousarray(turned[:, :, ::-1])
        return tiff(rgb, {274: [orientation]})
    if suffix == ".webp":
        return oriented(np.ascontiguousarray(pixels[:, :, ::-1]), "WEBP", orientation)
    content: bytes = cv2.imencode(suffix, turned)[1].tobytes()
    if suffix == ".png":
        exif = Image.Exif()
        exif[0x112] = orientation
        data = b"eXIf" + exif.tobytes()[6:]  # without the prefix that JPEG needs
        chunk = struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
        content = content[:33] + chunk + content[33:]
    return content
