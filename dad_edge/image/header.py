"""What a picture file declares before it is decoded: format, size, depth, orientation.

Pillow reads most headers and all EXIF data; OpenCV decodes the pixels, because Pillow reduces
16-bit colour to 8 bits (see `dad_edge.image.decode`).
"""

from __future__ import annotations

import io
import re
import struct
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image, TiffImagePlugin
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from dad_edge.errors import DataError

Format = Literal["PNG", "JPEG", "BMP", "TIFF", "WebP", "PNM"]

READ = re.compile(
    rb"(?P<PNG>\x89PNG\r\n\x1a\n)|(?P<JPEG>\xff\xd8\xff)|(?P<BMP>BM)"
    rb"|(?P<TIFF>II[*+]\0|MM\0[*+])|(?P<WebP>RIFF....WEBP)|(?P<PNM>P[1-6][\s#])",
    re.DOTALL,
)
"""First bytes of the formats that are read; the suffix of a file's name decides nothing."""

REFUSED = (
    ("GIF", rb"GIF8"),
    ("AVIF", rb"....ftypavi[fs]"),
    ("HEIC", rb"....ftyp(hei|hev|mif1|msf1)"),
    ("JPEG 2000", rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51"),
    ("JPEG XL", rb"\xff\x0a|\0\0\0\x0cJXL "),
    ("OpenEXR", rb"\x76\x2f\x31\x01"),
    ("Radiance HDR", rb"#\?(RADIANCE|RGBE)"),
    ("PFM", rb"P[fF]\s"),
    ("PAM", rb"P7\s"),
    ("NumPy", rb"\x93NUMPY"),
    ("Photoshop", rb"8BPS"),
    ("PDF", rb"%PDF"),
    ("SVG or XML", rb"\s*<(\?xml|svg|!DOCTYPE)"),
)
"""Names and first bytes of other formats, so that a refusal can name what it met."""

_PNM_LIMITS = {2**bits - 1: bits for bits in (1, 8, 10, 12, 14, 16)}
"""Largest value that a PNM file may declare → bits a value."""
_PNG_INDEXED = 3
_MOST_PAGES = 10_000


@dataclass(frozen=True, slots=True)
class Header:
    """What a file declares; nothing of it has been decoded."""

    format: Format
    width: int
    """Pixels of a stored row."""
    height: int
    """Stored rows."""
    bits: int = 8
    """Bits a stored value."""
    orientation: int = 1
    """EXIF orientation, 1 to 8: how the stored picture has to be turned to stand upright."""
    pages: int = 1
    """Pictures in the file; reduced copies of the first one do not count."""
    number: Literal["unsigned", "signed", "float"] = "unsigned"
    """How a value is stored."""
    white_is_zero: bool = False
    """Whether the smallest value is the brightest (TIFF)."""
    colour: Literal["plain", "indexed", "unknown"] = "plain"
    """`indexed` by a palette; `unknown` for raw sensor data and colours other than RGB."""
    lossy: bool = False
    """Whether decoded values may differ from those that were saved."""


def read_header(content: bytes, name: str) -> Header:
    """Read what a picture file declares.

    Args:
        content: of the whole file.
        name: of the file, for the error's sentence.

    Raises:
        DataError: it is not a picture of a format that is read, or its header is damaged.
    """
    if content.startswith(b"version https://git-lfs"):
        raise DataError(
            f"image {name} is not the image, but a pointer to it that Git LFS left.",
            "run 'git lfs pull' where the data set was cloned",
        )
    match = READ.match(content)
    if not match or not match.lastgroup:
        kind = next((k for k, first in REFUSED if re.match(first, content, re.DOTALL)), None)
        formats = "PNG, JPEG, BMP, TIFF, WebP and PNM pictures are read"
        if kind:
            raise DataError(
                f"image {name} is a {kind} file by its content; {formats}.", "convert it to PNG"
            )
        raise DataError(
            f"image {name} is damaged or not an image.",
            f"copy the file again or remove it; {formats}",
        )
    try:
        with warnings.catch_warnings():  # Pillow warns of damaged metadata
            warnings.simplefilter("ignore")
            return _READERS[match.lastgroup](content)
    except DataError as error:
        raise DataError(f"image {name} {error.message}", error.next_step) from error
    except Exception as error:  # a damaged header ends in any kind of error
        raise DataError(
            f"image {name} is damaged: its header cannot be read.",
            "copy the file again or remove it",
        ) from error


def _png(content: bytes) -> Header:
    # Pillow would decode the whole picture to find an orientation behind the pixels, and refuses
    # pictures with large colour profiles.
    chunks = dict(_png_chunks(content))
    width, height, bits, colour = struct.unpack(">IIBB", chunks[b"IHDR"][:10])
    animation = chunks.get(b"acTL", b"")
    return Header(
        "PNG",
        width,
        height,
        bits,
        orientation=_orientation(chunks.get(b"eXIf", b"")),
        pages=int.from_bytes(animation[:4], "big") or 1,
        colour="indexed" if colour == _PNG_INDEXED else "plain",
    )


def _png_chunks(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Name and data of every chunk of a PNG file but those of the pixels."""
    place = 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        kind = content[place + 4 : place + 8]
        yield kind, b"" if kind == b"IDAT" else content[place + 8 : place + 8 + length]
        place += 12 + length


def _jpeg(content: bytes) -> Header:
    image = JpegImageFile(io.BytesIO(content))
    width, height = image.size
    orientation = _orientation(image.info.get("exif", b""))
    return Header("JPEG", width, height, image.bits, orientation, lossy=True)


def _bmp(content: bytes) -> Header:
    image = BmpImageFile(io.BytesIO(content))
    width, height = image.size
    return Header("BMP", width, height, colour="indexed" if image.mode == "P" else "plain")


def _webp(content: bytes) -> Header:
    image = WebPImageFile(io.BytesIO(content))
    width, height = image.size
    return Header(
        "WebP",
        width,
        height,
        orientation=_orientation(image.info.get("exif", b"")),
        pages=getattr(image, "n_frames", 1),
        lossy=b"VP8 " in _riff_names(content),
    )


def _riff_names(content: bytes) -> set[bytes]:
    names, place = set(), 12
    while place + 8 <= len(content):
        names.add(content[place : place + 4])
        length = int.from_bytes(content[place + 4 : place + 8], "little")
        place += 8 + length + length % 2
    return names


def _pnm(content: bytes) -> Header:
    kind, rest = content[:2], re.sub(rb"#[^\n]*\n", b" ", content[2:1024])
    words = rest.split(maxsplit=3)
    largest = 1 if kind in (b"P1", b"P4") else int(words[2])
    if largest not in _PNM_LIMITS:
        raise DataError(
            f"declares a largest value of {largest}.",
            f"save it with one of {', '.join(map(str, _PNM_LIMITS))}, or as PNG",
        )
    return Header("PNM", int(words[0]), int(words[1]), max(_PNM_LIMITS[largest], 8))


def _tiff(content: bytes) -> Header:
    pages = _tiff_pages(content)
    first = pages[0]
    number = {2: "signed", 3: "float"}.get(_first(first, 339, 1), "unsigned")
    photometric = _first(first, 262, 1)
    compression = _first(first, 259, 1)
    known = photometric in (0, 1, 2, 3, 6) and 50706 not in first and content[8:10] != b"CR"
    indexed = "indexed" if photometric == 3 else "plain"
    return Header(
        "TIFF",
        int(_first(first, 256, 0)),
        int(_first(first, 257, 0)),
        bits=int(_first(first, 258, 1)),
        orientation=_valid(_first(first, 274, 1)),
        pages=sum(not _first(page, 254, 0) & 0b101 for page in pages[1:]) + 1,
        number=number,  # type: ignore[arg-type]
        white_is_zero=photometric == 0,
        colour=indexed if known else "unknown",  # type: ignore[arg-type]
        lossy=compression in (6, 7),
    )


def _tiff_pages(content: bytes) -> list[dict[int, Any]]:
    """Tags of every page of a TIFF file."""
    file = io.BytesIO(content)
    start = file.read(16 if b"+" in content[2:4] else 8)
    directory = TiffImagePlugin.ImageFileDirectory_v2(start)
    pages: list[dict[int, Any]] = []
    offsets = set()
    while directory.next and directory.next not in offsets and len(pages) < _MOST_PAGES:
        offsets.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        pages.append(dict(directory))
    return pages


def _first(tags: dict[int, Any], tag: int, default: int) -> Any:
    """A tag's value, or the first one where there are several."""
    value = tags.get(tag, default)
    return value[0] if isinstance(value, tuple) else value


def _orientation(exif: bytes) -> int:
    """The orientation that EXIF data name; damaged data name none."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        return _valid(tags.get(0x112, 1))
    except Exception:  # any kind of error: the picture itself may be whole
        return 1


def _valid(orientation: Any) -> int:
    return orientation if orientation in range(1, 9) else 1


_READERS = {
    "PNG": _png,
    "JPEG": _jpeg,
    "BMP": _bmp,
    "TIFF": _tiff,
    "WebP": _webp,
    "PNM": _pnm,
}
