from __future__ import annotations

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from picture_files import tiff

from dad_edge.errors import DataError
from dad_edge.image.preprocess import as_frame, read_frame, resize, to_frame, to_image, to_mask


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    """(40,56,3) uint8: smooth, different in every channel."""
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    return np.asarray(cv2.GaussianBlur(noise, (0, 0), 2), dtype=np.uint8)


def save(path: Path, image: np.ndarray) -> Path:
    encoded = cv2.imencode(path.suffix, image)[1]
    path.write_bytes(encoded.tobytes())
    return path


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff"])
def test_colour_files_are_read_as_they_are(
    tmp_path: Path, picture: np.ndarray, suffix: str
) -> None:
    np.testing.assert_array_equal(read_frame(save(tmp_path / f"a{suffix}", picture)), picture)


def test_file_names_may_hold_any_letter(tmp_path: Path, picture: np.ndarray) -> None:
    np.testing.assert_array_equal(read_frame(save(tmp_path / "Übergröße 品.png", picture)), picture)


def test_grey_is_repeated(tmp_path: Path, picture: np.ndarray) -> None:
    frame = read_frame(save(tmp_path / "a.png", picture[:, :, 0]))
    np.testing.assert_array_equal(frame, np.dstack([picture[:, :, 0]] * 3))


def test_transparency_is_dropped(tmp_path: Path, picture: np.ndarray) -> None:
    alpha = np.zeros(picture.shape[:2], np.uint8)
    frame = read_frame(save(tmp_path / "a.png", np.dstack([picture, alpha])))
    np.testing.assert_array_equal(frame, picture)
    assert frame.flags.c_contiguous


def test_sixteen_bits_are_scaled_by_a_constant(tmp_path: Path) -> None:
    values = np.array([[0, 128, 129, 257, 1000, 32768, 65535]], np.uint16)
    frame = read_frame(save(tmp_path / "a.png", values))
    expected = np.floor(values / 257 + 0.5).astype(np.uint8)
    np.testing.assert_array_equal(frame, np.dstack([expected] * 3))
    dark = read_frame(save(tmp_path / "b.png", values // 100), 16)
    assert dark.max() == 3  # 655 / 257: a dark image stays dark


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".jpg"])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("shape", [(40, 56), (1, 1), (33, 17)])
def test_plain_files_are_read_as_opencv_reads_them(
    tmp_path: Path, picture: np.ndarray, suffix: str, channels: int, shape: tuple[int, int]
) -> None:
    """Scores of before hold to the bit."""
    image = np.ascontiguousarray(picture[: shape[0], : shape[1], :channels])
    path = save(tmp_path / f"a{suffix}", image)
    np.testing.assert_array_equal(read_frame(path), cv2.imread(str(path), cv2.IMREAD_COLOR))
    assert read_frame(str(path)).flags.c_contiguous


@pytest.mark.parametrize("depth", [8, 10, 12, 14, 16])
def test_the_depth_of_the_data_set_scales_sixteen_bits(tmp_path: Path, depth: int) -> None:
    white = 2**depth - 1
    values = np.array([[0, white // 3, white]], np.uint16)
    frame = read_frame(save(tmp_path / "a.png", values), depth)
    assert frame[0, :, 0].tolist() == [0, 85, 255]
    if depth < 16:
        with pytest.raises(DataError, match=f"has a value of {white + 1}; .* of {depth} bits"):
            read_frame(save(tmp_path / "b.png", values + 1), depth)


def test_eight_bits_need_no_depth(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(read_frame(path, 12), picture)


def test_fewer_bits_than_agreed_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    read_frame(save(tmp_path / "full.png", np.array([[0, 65535]], np.uint16)))
    read_frame(save(tmp_path / "twelve.png", np.array([[0, 4095]], np.uint16)), 12)
    assert not caplog.messages
    read_frame(save(tmp_path / "dark.png", np.array([[0, 4095]], np.uint16)), 16)
    assert "dark.png uses 12 of 16 bits" in caplog.text


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
def test_a_model_of_eight_bits_refuses_sixteen_that_use_fewer(tmp_path: Path, bits: int) -> None:
    path = save(tmp_path / "a.png", np.array([[0, 2**bits - 1]], np.uint16))
    with pytest.raises(DataError, match=f"uses {bits} of 16 bits.* trained on 8-bit images"):
        read_frame(path)


def test_a_dark_image_of_eight_bits_may_be_stretched_to_sixteen(tmp_path: Path) -> None:
    dark = np.array([[0, 3, 40]], np.uint16)
    frame = read_frame(save(tmp_path / "a.png", dark * 257))
    assert frame[0, :, 0].tolist() == [0, 3, 40]


def test_a_depth_that_the_file_declares_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n2 1\n4095\n" + np.array([0, 4095], ">u2").tobytes())
    for depth in (None, 10, 14):
        assert read_frame(path, depth)[0, :, 0].tolist() == [0, 255]
    packed = np.array([[0x00, 0x0F, 0xFF]], np.uint8)  # 0 and 4095 in 12 bits each
    path.write_bytes(tiff(packed, {256: [2], 258: [12]}))
    for depth in (None, 12, 14):
        assert read_frame(path, depth)[0, :, 0].tolist() == [0, 255]


@pytest.mark.parametrize(
    "values",
    [
        np.zeros((4, 4), np.int16),
        np.zeros((4, 4), np.int8),
        np.zeros((4, 4), np.uint32),
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), np.float16),
        np.zeros((4, 4), np.float32),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((4, 4), np.float64),
    ],
    ids=lambda values: f"{values.dtype}-{values.ndim}",
)
def test_other_numbers_are_refused_with_what_to_convert(tmp_path: Path, values: np.ndarray) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(values))
    with pytest.raises(DataError, match="unsigned 8-bit or 16-bit values are expected") as caught:
        read_frame(tmp_path / "a.tif")
    assert "by one fixed scale" in caught.value.next_step


def test_white_as_zero(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(np.array([[0, 1, 255]], np.uint8), {262: [0]}))
    assert read_frame(tmp_path / "a.tif")[0, :, 0].tolist() == [255, 254, 0]
    (tmp_path / "a.tif").write_bytes(tiff(np.array([[0, 1, 255]], np.uint16), {262: [0]}))
    with pytest.raises(DataError, match="16-bit TIFF whose smallest value is white"):
        read_frame(tmp_path / "a.tif")


def test_a_picture_that_does_not_fit_into_memory(
    tmp_path: Path, picture: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save(tmp_path / "a.png", picture[:, :, 0])

    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(np, "repeat", fail)
    with pytest.raises(DataError, match="the memory is not enough"):
        read_frame(path)


def test_black_pictures_are_read_like_all_others(tmp_path: Path) -> None:
    assert not read_frame(save(tmp_path / "a.png", np.zeros((4, 4), np.uint8))).any()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp", ".tiff"])
@pytest.mark.parametrize("kept", [0.3, 0.9, 0.995])
def test_truncated_files_are_refused(
    tmp_path: Path, picture: np.ndarray, suffix: str, kept: float
) -> None:
    path = save(tmp_path / f"a{suffix}", picture)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(DataError, match=r"truncated|damaged") as caught:
        read_frame(path)
    assert str(path) in caught.value.message
    assert "copy the file again" in caught.value.next_step


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_missing_end_is_named(tmp_path: Path, picture: np.ndarray, suffix: str) -> None:
    path = save(tmp_path / f"a{suffix}", picture)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(DataError, match="truncated: its end is missing"):
        read_frame(path)


def test_bytes_after_the_end_do_no_harm(tmp_path: Path, picture: np.ndarray) -> None:
    path = save(tmp_path / "a.png", picture)
    path.write_bytes(path.read_bytes() + b"camera serial 1234" * 200)
    np.testing.assert_array_equal(read_frame(path), picture)


@pytest.mark.parametrize(
    ("content", "says"), [(b"", r"empty \(0 bytes\)"), (b"not an image" * 10, "not an image")]
)
def test_files_that_are_no_images(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(DataError, match=says):
        read_frame(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["missing.png", "."])
def test_paths_that_are_no_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot read image"):
        read_frame(tmp_path / name)


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((4, 4, 2), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((0, 4, 3), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((2, 4, 4, 3), np.uint8), "1, 3 or 4 channels"),
        (np.zeros((4, 4, 3), np.float32), "8-bit or 16-bit pixels, got float32"),
    ],
)
def test_arrays_that_are_no_frames(image: np.ndarray, says: str) -> None:
    with pytest.raises(DataError, match=f"camera 0: expected .*{says}"):
        as_frame(image, "camera 0")


def area_weights(length: int, size: int) -> np.ndarray:
    """(size,length): share of each source pixel in each target pixel."""
    weights = np.zeros((size, length))
    scale = length / size
    for target in range(size):
        start, end = target * scale, (target + 1) * scale
        for source in range(math.floor(start), min(math.ceil(end), length)):
            weights[target, source] = max(0.0, min(end, source + 1) - max(start, source))
    return weights / scale


def linear_weights(length: int, size: int) -> np.ndarray:
    """(size,length): half-pixel centres, edges repeated."""
    weights = np.zeros((size, length))
    for target in range(size):
        position = (target + 0.5) * length / size - 0.5
        first = math.floor(position)
        for source, weight in ((first, first + 1 - position), (first + 1, position - first)):
            weights[target, min(max(source, 0), length - 1)] += weight
    return weights


@pytest.mark.parametrize(
    ("height", "width", "area"),
    [
        (64, 96, True),
        (37, 53, True),
        (32, 47, True),
        (31, 100, False),
        (100, 20, False),
        (9, 7, False),
        (1, 1, False),
    ],
)
def test_resize_is_area_where_both_sides_shrink_else_linear(
    height: int, width: int, area: bool
) -> None:
    frame = np.random.default_rng(3).integers(0, 256, (height, width, 3), dtype=np.uint8)
    weights = area_weights if area else linear_weights
    expected = np.einsum("yh,xw,hwc->yxc", weights(height, 32), weights(width, 32), frame)
    # OpenCV keeps its weights in float32: 255 · 2^-24 times a few hundred terms.
    np.testing.assert_allclose(resize(frame, 32), expected, rtol=0, atol=5e-3)


def test_a_frame_of_the_models_size_is_not_changed(picture: np.ndarray) -> None:
    square = np.ascontiguousarray(picture[:32, :32])
    np.testing.assert_array_equal(resize(square, 32), square.astype(np.float32))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_the_value_range_is_fixed(value_range: tuple[float, float]) -> None:
    low, high = value_range
    black_and_white = np.zeros((8, 8, 3), np.uint8)
    black_and_white[:, 4:] = 255
    image = to_image(black_and_white, 8, value_range)
    assert image.dtype == np.float32
    assert image.flags.c_contiguous
    assert (image.min(), image.max()) == (low, high)
    grey = to_image(np.full((8, 8, 3), 100, np.uint8), 8, value_range)
    np.testing.assert_allclose(grey, low + (high - low) * 100 / 255, rtol=1e-6)


def test_channels_are_red_green_blue() -> None:
    blue = np.zeros((8, 8, 3), np.uint8)
    blue[:, :, 0] = 255
    assert to_image(blue, 8, (0.0, 1.0)).mean(axis=(1, 2)).tolist() == [0, 0, 1]


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0)])
def test_to_frame_inverts_to_image(picture: np.ndarray, value_range: tuple[float, float]) -> None:
    square = np.ascontiguousarray(picture[:32, :32])
    np.testing.assert_array_equal(to_frame(to_image(square, 32, value_range), value_range), square)


def test_to_frame_clips() -> None:
    image = np.array([-0.5, 0.0, 1.7], np.float32).reshape(3, 1, 1)
    assert to_frame(image, (0.0, 1.0)).ravel().tolist() == [255, 0, 0]


def test_a_mask_pixel_counts_when_half_of_it_is_marked() -> None:
    mask = np.zeros((8, 8), np.uint8)
    mask[0, 0:2] = 255  # half of the first target pixel
    mask[4, 4] = 1  # a quarter of another
    assert np.argwhere(to_mask(mask, 4)).tolist() == [[0, 0]]


def test_thin_marks_keep_their_strongest_pixel() -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[20, 3] = 255
    assert np.argwhere(to_mask(mask, 8)).tolist() == [[2, 0]]


def test_colour_and_empty_masks() -> None:
    mask = np.zeros((16, 16, 3), np.uint8)
    assert not to_mask(mask, 8).any()
    mask[:8, :, 2] = 255
    assert to_mask(mask, 8).sum() == 32
