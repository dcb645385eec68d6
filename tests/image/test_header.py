"""What a file declares, and which files are refused by name before anything is decoded."""

from __future__ import annotations

import io

import numpy as np
import pytest
from picture_files import ORIENTED, oriented, tiff, two_pages
from PIL import Image

from dad_edge.errors import DataError
from dad_edge.image.header import read_header

GREY = np.arange(48, dtype=np.uint8).reshape(6, 8)


def saved(file_format: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, file_format, **options)  # type: ignore[arg-type]
    return file.getvalue()


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "BMP", "TIFF", "WebP", "PPM"])
def test_size_and_format_are_known_before_decoding(file_format: str) -> None:
    header = read_header(saved(file_format), "a")
    assert (header.width, header.height, header.bits, header.pages) == (8, 6, 8, 1)
    assert header.format == ("PNM" if file_format == "PPM" else file_format)
    assert header.lossy == (file_format in ("JPEG", "WebP"))


@pytest.mark.parametrize("file_format", ORIENTED)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_found(file_format: str, orientation: int) -> None:
    header = read_header(oriented(np.dstack([GREY] * 3), file_format, orientation), "a")
    assert header.orientation == orientation
    assert not header.lossy or file_format == "JPEG"


def test_an_orientation_behind_the_pixels_of_a_png_counts() -> None:
    content = oriented(np.dstack([GREY] * 3), "PNG", 6)
    start = content.index(b"eXIf") - 4
    length = 12 + int.from_bytes(content[start : start + 4], "big")
    chunk, rest = content[start : start + length], content[:start] + content[start + length :]
    end = rest.index(b"IEND") - 4
    assert read_header(rest[:end] + chunk + rest[end:], "a").orientation == 6


@pytest.mark.parametrize("exif", [b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"nonsense"])
def test_damaged_metadata_name_no_orientation(exif: bytes) -> None:
    assert read_header(saved("PNG", exif=exif), "a").orientation == 1


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (b"GIF89a" + b"\0" * 40, "GIF"),
        (b"\0\0\0\x20ftypavif" + b"\0" * 40, "AVIF"),
        (b"\0\0\0\x20ftypheic" + b"\0" * 40, "HEIC"),
        (b"\x76\x2f\x31\x01" + b"\0" * 40, "OpenEXR"),
        (b"\x93NUMPY" + b"\0" * 40, "NumPy"),
        (b"\0\0\0\x0cjP  \r\n" + b"\0" * 40, "JPEG 2000"),
        (b"Pf\n2 2\n-1.0\n" + b"\0" * 40, "PFM"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
    ],
)
def test_other_formats_are_refused_by_their_name(content: bytes, name: str) -> None:
    with pytest.raises(DataError, match=rf"part\.png is a {name}.* file by its content"):
        read_header(content, "part.png")


def test_a_pointer_of_git_lfs_says_how_to_get_the_image() -> None:
    with pytest.raises(DataError, match=r"part\.png is not the image, but a pointer") as caught:
        read_header(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "part.png")
    assert "git lfs pull" in caught.value.next_step


def test_a_pnm_declares_its_depth() -> None:
    values = np.array([[0, 4095]], ">u2").tobytes()
    assert read_header(b"P5\n# camera\n2 1\n4095\n" + values, "a").bits == 12
    assert read_header(b"P4\n8 1\n\xf0", "a").bits == 8
    with pytest.raises(DataError, match=r"a\.pgm declares a largest value of 100") as caught:
        read_header(b"P5 2 1 100\n\1\2", "a.pgm")
    assert "255" in caught.value.next_step


def test_a_tiff_declares_how_it_stores_values() -> None:
    assert read_header(tiff(np.zeros((2, 3), np.uint16)), "a").bits == 16
    assert read_header(tiff(np.zeros((2, 3), np.int16)), "a").number == "signed"
    assert read_header(tiff(np.zeros((2, 3), np.float32)), "a").number == "float"
    assert read_header(tiff(GREY, {262: [0]}), "a").white_is_zero
    assert read_header(tiff(GREY, {262: [3]}), "a").colour == "indexed"
    assert read_header(tiff(GREY, {262: [32803]}), "a").colour == "unknown"


@pytest.mark.parametrize(("subfile", "pages"), [(0, 2), (2, 2), (1, 1), (4, 1)])
def test_reduced_copies_and_masks_are_no_pages(subfile: int, pages: int) -> None:
    content = two_pages(GREY, GREY[:3, :4].copy(), {254: [subfile]})
    assert read_header(content, "a").pages == pages


def test_a_circle_of_pages_ends() -> None:
    content = bytearray(tiff(GREY))
    link = 10 + 12 * int.from_bytes(content[8:10], "little")
    content[link : link + 4] = (8).to_bytes(4, "little")
    assert read_header(bytes(content), "a").pages == 1
