"""A file becomes pixels in one way only: upright, whole, of a size that is allowed."""

from __future__ import annotations

import io
import os
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from picture_files import ORIENTED, indexed, oriented, stored, tiff
from PIL import Image

from dad_edge.errors import DataError, UsageError
from dad_edge.image.decode import LIMIT_VARIABLE, open_picture, turn
from dad_edge.image.preprocess import read_frame

LABELS = np.zeros((6, 10), np.uint8)
LABELS[:2, :3] = 1
LABELS[4, 8] = 2


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(24,40,3) uint8 RGB that no orientation leaves as it is."""
    noise = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 3), dtype=np.uint8)


@pytest.mark.parametrize("file_format", ORIENTED)
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("grey", [False, True])
def test_every_orientation_is_read_upright(
    tmp_path: Path, picture: np.ndarray, file_format: str, orientation: int, grey: bool
) -> None:
    shown = picture[:, :, 0] if grey else picture
    if grey and file_format == "WEBP":
        shown = np.dstack([shown] * 3)
    path = tmp_path / "a.png"
    path.write_bytes(oriented(shown, file_format, orientation))
    frame = read_frame(path)
    expected = np.dstack([shown] * 3) if shown.ndim == 2 else shown[:, :, ::-1]
    # JPEG of quality 100 rounds its coefficients.
    atol = 4 if file_format == "JPEG" else 0
    np.testing.assert_allclose(frame.astype(int), expected.astype(int), rtol=0, atol=atol)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("channels", [1, 3])
def test_a_tiff_of_sixteen_bits_is_read_upright(
    tmp_path: Path, picture: np.ndarray, orientation: int, channels: int
) -> None:
    shown = picture if channels == 3 else picture[:, :, 0]
    values = stored(shown, orientation).astype(np.uint16) * 257
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(values, {274: [orientation]}))
    expected = shown[:, :, ::-1] if channels == 3 else np.dstack([shown] * 3)
    np.testing.assert_array_equal(read_frame(path), expected)


@pytest.mark.parametrize("file_format", ["PNG", "BMP", "TIFF"])
def test_labels_are_the_numbers_of_a_palette(tmp_path: Path, file_format: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(indexed(LABELS, [255, 255, 255, 0, 0, 0, 9, 99, 9], file_format))
    np.testing.assert_array_equal(open_picture(path).labels(), LABELS)
    assert open_picture(path).pixels().shape == (*LABELS.shape, 3)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_of_a_turned_tiff_stand_upright(tmp_path: Path, orientation: int) -> None:
    turned = stored(LABELS, orientation)
    image = Image.frombytes("P", turned.shape[::-1], turned.tobytes())
    image.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
    image.save(tmp_path / "a.tif", tiffinfo={274: orientation})
    np.testing.assert_array_equal(open_picture(tmp_path / "a.tif").labels(), LABELS)


def test_quarter_turns() -> None:
    """Orientation 6 is shown turned a quarter clockwise, 8 counter-clockwise."""
    pixels = np.arange(6).reshape(2, 3)
    np.testing.assert_array_equal(turn(pixels, 6), np.rot90(pixels, -1))
    np.testing.assert_array_equal(turn(pixels, 8), np.rot90(pixels, 1))
    np.testing.assert_array_equal(turn(pixels, 5), pixels.T)


def huge_png(side: int) -> bytes:
    """A PNG that declares a black grey square; its data would fill it."""
    packer = zlib.compressobj(9)
    block = b"\0" * (side + 1)
    data = b"".join(packer.compress(block) for _ in range(side)) + packer.flush()

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", check)

    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def test_a_picture_is_refused_by_its_declared_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(huge_png(2000))
    assert read_frame(path).shape == (2000, 2000, 3)
    monkeypatch.setenv(LIMIT_VARIABLE, "3.9")
    with pytest.raises(DataError, match=r"2000×2000 pixels, more than the 3\.9") as caught:
        read_frame(path)
    assert LIMIT_VARIABLE in caught.value.next_step
    monkeypatch.delenv(LIMIT_VARIABLE)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", 30000, 30000)
    path.write_bytes(content)
    with pytest.raises(DataError, match="declares 30000×30000 pixels, more than the 178"):
        read_frame(path)


@pytest.mark.parametrize("value", ["", "many", "-1", "0", "nan"])
def test_a_limit_that_is_no_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str
) -> None:
    (tmp_path / "a.png").write_bytes(huge_png(4))
    monkeypatch.setenv(LIMIT_VARIABLE, value)
    with pytest.raises(UsageError, match="not a positive number"):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("error", [MemoryError(), cv2.error("no memory")])
def test_too_little_memory_is_a_picture_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    (tmp_path / "a.png").write_bytes(huge_png(4))
    if isinstance(error, cv2.error):
        error.code = cv2.Error.StsNoMem

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(cv2, "imdecode", fail)
    with pytest.raises(DataError, match="the memory is not enough"):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("file_format", ["TIFF", "PNG", "WEBP"])
def test_files_of_several_pictures_are_refused(
    tmp_path: Path, picture: np.ndarray, file_format: str
) -> None:
    pages = [Image.fromarray(p) for p in (picture, picture[::-1].copy())]
    pages[0].save(tmp_path / "a", file_format, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="holds 2 pictures; one is expected"):
        read_frame(tmp_path / "a")


def test_the_content_tells_the_format_not_the_suffix(tmp_path: Path, picture: np.ndarray) -> None:
    for file_format in ("PPM", "BMP", "TIFF"):
        Image.fromarray(picture).save(tmp_path / "a.png", file_format)
        np.testing.assert_array_equal(read_frame(tmp_path / "a.png"), picture[:, :, ::-1])
    Image.fromarray(picture).save(tmp_path / "a.png", "GIF")
    with pytest.raises(DataError, match="is a GIF file by its content"):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("photometric", [5, 8, 32803])
def test_colours_that_are_not_rgb_are_refused(tmp_path: Path, photometric: int) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((4, 4, 3), np.uint8), {262: [photometric]}))
    with pytest.raises(DataError, match="raw sensor data or of colours"):
        read_frame(tmp_path / "a.tif")


def test_a_link_to_itself_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(DataError, match="cannot read image"):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("device", ["/dev/zero", "/dev/full", "/dev/null"])
def test_a_device_is_no_picture(tmp_path: Path, device: str) -> None:
    """Some never end, and would fill the memory."""
    (tmp_path / "a.png").symlink_to(device)
    with pytest.raises(DataError, match="it is a pipe or a device, not a file"):
        read_frame(tmp_path / "a.png")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(DataError, match="it is a pipe or a device, not a file"):
        read_frame(tmp_path / "a.png")


def seeds() -> list[bytes]:
    grey = (np.arange(80, dtype=np.uint8) * 3).reshape(8, 10)
    files = [oriented(np.dstack([grey] * 3), f, 6) for f in ORIENTED]
    files += [indexed(grey % 4, [0, 0, 0, 255, 0, 0]), tiff(grey.astype(np.uint16) * 257)]
    for file_format in ("BMP", "PPM"):
        file = io.BytesIO()
        Image.fromarray(grey).save(file, file_format)
        files.append(file.getvalue())
    return files


@settings(
    max_examples=150,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(data=st.data())
def test_damaged_files_end_in_an_error_of_their_own(tmp_path: Path, data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(seeds())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "a.png"
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    for read in (read_frame, lambda p: open_picture(p).labels()):
        with suppress(DataError):
            assert read(path).size > 0
