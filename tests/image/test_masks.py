"""The same mask is read the same, however it was stored."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import indexed, oriented, stored, tiff
from PIL import Image

from dad_edge.errors import DataError
from dad_edge.image.masks import read_mask

MARKED = np.zeros((32, 48), bool)
MARKED[4:14, 6:30] = True
MARKED[20:30, 36:46] = True
ONE = MARKED.astype(np.uint8)


def png(pixels: np.ndarray) -> bytes:
    return cv2.imencode(".png", pixels)[1].tobytes()


def one_bit() -> bytes:
    return cv2.imencode(".png", ONE * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])[1].tobytes()


def with_alpha(colour: int, alpha: np.ndarray) -> bytes:
    return png(np.dstack([np.full_like(alpha, colour)] * 3 + [alpha]))


STORED = {
    "0 and 255": png(ONE * 255),
    "0 and 1": png(ONE),
    "one bit": one_bit(),
    "several labels": png(ONE * np.arange(1, 49, dtype=np.uint8)),
    "16 bits, 1": png(ONE.astype(np.uint16)),
    "16 bits, 65535": png(ONE.astype(np.uint16) * 65535),
    "16-bit colour, 1 in blue": png(
        np.dstack([ONE, ONE * 0, ONE * 0]).astype(np.uint16),
    ),
    "dark red": png(np.dstack([ONE * 0, ONE * 0, ONE * 3])),
    "opaque": png(np.dstack([ONE * 255] * 3 + [ONE * 0 + 255])),
    "transparent everywhere": png(np.dstack([ONE * 255] * 3 + [ONE * 0])),
    "transparent outside, black": with_alpha(0, ONE * 255),
    "transparent outside, white": with_alpha(255, ONE * 255),
    "transparent outside, 16 bits": png(
        np.dstack([ONE * 0] * 3 + [ONE]).astype(np.uint16) * 65535,
    ),
    "palette, 0 shown white": indexed(ONE, [255, 255, 255, 0, 0, 0]),
    "palette, both shown black": indexed(ONE, [0] * 6),
    "palette, BMP": indexed(ONE, [0, 0, 0, 255, 0, 0], "BMP"),
    "palette, TIFF": indexed(ONE, [255, 255, 255, 0, 0, 0], "TIFF"),
    "TIFF, float": tiff(MARKED.astype(np.float32) / 2),
    "TIFF, signed": tiff(MARKED.astype(np.int16)),
    "TIFF, white is zero": tiff(255 - ONE * 255, {262: [0]}),
    "TIFF, white is zero, 16 bits": tiff(65535 - ONE.astype(np.uint16), {262: [0]}),
    "BMP": cv2.imencode(".bmp", ONE * 255)[1].tobytes(),
    "PGM": cv2.imencode(".pgm", ONE)[1].tobytes(),
    "WebP without loss": cv2.imencode(".webp", np.dstack([ONE * 255] * 3), [64, 101])[1].tobytes(),
}


@pytest.mark.parametrize("how", STORED)
def test_every_label_but_zero_is_marked(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, how: str
) -> None:
    (tmp_path / "mask.png").write_bytes(STORED[how])
    np.testing.assert_array_equal(read_mask(tmp_path / "mask.png"), MARKED)
    assert not caplog.messages


@pytest.mark.parametrize("suffix", [".jpg", ".webp"])
@pytest.mark.parametrize("quality", [60, 90, 100])
def test_a_lossy_mask_is_read_by_half_of_white_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str, quality: int
) -> None:
    path = tmp_path / f"mask{suffix}"
    flag = cv2.IMWRITE_JPEG_QUALITY if suffix == ".jpg" else cv2.IMWRITE_WEBP_QUALITY
    path.write_bytes(cv2.imencode(suffix, np.dstack([ONE * 255] * 3), [flag, quality])[1].tobytes())
    # Edges that lie across the blocks of the format may move by a pixel.
    assert (read_mask(path) != MARKED).sum() <= 8
    assert "is a lossy picture" in caplog.text


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("file_format", ["PNG", "TIFF", "palette"])
def test_masks_stand_upright(tmp_path: Path, orientation: int, file_format: str) -> None:
    path = tmp_path / "mask"
    if file_format == "palette":
        turned = stored(ONE, orientation)
        image = Image.frombytes("P", turned.shape[::-1], turned.tobytes())
        image.putpalette([255, 255, 255, 0, 0, 0] + [0] * 762)
        exif = Image.Exif()
        exif[0x112] = orientation
        image.save(path, "PNG", exif=exif)
    else:
        path.write_bytes(oriented(ONE, file_format, orientation))
    np.testing.assert_array_equal(read_mask(path), MARKED)


def test_a_mask_that_is_no_picture(tmp_path: Path) -> None:
    (tmp_path / "mask.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"mask\.png is damaged or not an image"):
        read_mask(tmp_path / "mask.png")
