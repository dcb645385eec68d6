"""inject.cu against the definitions in dad_edge.image.preprocess and dad_edge.model.philox."""

from __future__ import annotations

import ctypes

import cv2
import numpy as np
import pytest
from kernel_host import NOISE, SIGNAL, Array, blocks_of_four, guarded, launch

from dad_edge.image.preprocess import to_image
from dad_edge.model.philox import normal, philox4x32

FORMATS = {"BGR": 0, "RGB": 1, "GREY": 2, "NV12": 3, "NV12_709": 4}


def padded(pixels: Array, padding: int) -> Array:
    """The same rows in a wider buffer, whose padding must never be read."""
    rows = pixels.reshape(pixels.shape[0], -1)
    buffer = np.full((rows.shape[0], rows.shape[1] + padding), 255, dtype=np.uint8)
    buffer[:, : rows.shape[1]] = rows
    return buffer


def inject(
    frames: list[Array],
    pixel_format: str,
    size: int,
    *,
    kind: str = "f32",
    scale: float = 1.0,
    offset: float = 0.0,
    seed: int = 0,
    counter: int = 0,
    advance: int = 0,
    padding: int = 5,
    first: int = 0,
    after: int = 0,
) -> tuple[Array, Array]:
    """Frames as rows of bytes (for NV12 luma rows, then chroma rows) to image and x_t."""
    dtype = np.float32 if kind == "f32" else np.float16
    batch, lambdas = first + len(frames) + after, len(SIGNAL)
    rows, width = frames[0].shape[:2]
    height = rows * 2 // 3 if pixel_format.startswith("NV12") else rows
    buffer = np.stack([padded(frame, padding) for frame in frames])
    image, check_image = guarded((batch, 3, size, size), dtype)
    broken, check_broken = guarded((batch,), np.uint32)
    x_t, check_x_t = guarded((lambdas * batch, 3, size, size), dtype)
    launch(
        f"inject_{kind}",
        (blocks_of_four(3 * size * size, 64), len(frames)),
        64,
        buffer,
        ctypes.c_longlong(buffer[0].size),
        ctypes.c_longlong(buffer.shape[2]),
        ctypes.c_longlong(height * buffer.shape[2]),
        ctypes.c_int(height),
        ctypes.c_int(width),
        ctypes.c_int(FORMATS[pixel_format]),
        image,
        x_t,
        broken,
        ctypes.c_int(size),
        ctypes.c_int(first),
        ctypes.c_int(batch),
        ctypes.c_int(lambdas),
        SIGNAL,
        NOISE,
        ctypes.c_float(scale),
        ctypes.c_float(offset),
        ctypes.c_ulonglong(seed),
        np.array([counter], dtype=np.uint64),
        ctypes.c_int(advance),
    )
    check_image()
    check_x_t()
    check_broken()
    assert (broken[first : first + len(frames)] == 0).all(), "no row is broken yet"
    return image, x_t


def random_frame(height: int, width: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_noise_integers_are_equal_and_normals_agree() -> None:
    seed, counter, blocks = 0x123456789ABCDEF0, (7 << 32) + 11, 5000
    words = np.empty((blocks, 4), dtype=np.uint32)
    normals = np.empty((blocks, 4), dtype=np.float32)
    launch(
        "noise_f32",
        (-(-blocks // 256), 1),
        256,
        words,
        normals,
        ctypes.c_uint(blocks),
        ctypes.c_uint(3),
        ctypes.c_ulonglong(counter),
        ctypes.c_ulonglong(seed),
    )
    counters = np.tile(np.array([0, 3, 11, 7], dtype=np.uint32), (blocks, 1))
    counters[:, 0] = np.arange(blocks)
    key = np.array([0x9ABCDEF0, 0x12345678], dtype=np.uint32)
    np.testing.assert_array_equal(words, philox4x32(counters, key))
    expected = normal((1, blocks, 4), seed=seed, lambda_index=3, frame_counter=counter)[0]
    np.testing.assert_allclose(normals, expected, rtol=1e-6, atol=1e-6)


def test_half_precision_of_the_shim_is_that_of_numpy() -> None:
    every_half = np.arange(65536, dtype=np.uint16).view(np.float16).astype(np.float32)
    rng = np.random.default_rng(0)
    spread = rng.normal(size=40000) * 2.0 ** rng.integers(-27, 18, 40000)
    values = np.concatenate([every_half, spread.astype(np.float32), np.float32([65519, 65520])])
    halves = np.empty(values.size, dtype=np.float16)
    back = np.empty_like(values)
    launch(
        "half_round_trip",
        (-(-values.size // 256), 1),
        256,
        values,
        halves,
        back,
        ctypes.c_int(values.size),
    )
    with np.errstate(over="ignore"):
        expected = values.astype(np.float16)
    np.testing.assert_array_equal(halves, expected)
    np.testing.assert_array_equal(back, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [
        (37, 53, 16),  # area, fractions at the edges
        (48, 64, 16),  # area, whole ratios
        (9, 17, 8),  # area, hardly smaller
        (61, 45, 7),  # area, odd size: rows of the tensors are not aligned
        (5, 7, 16),  # bilinear, larger
        (16, 16, 16),  # as it is
        (16, 40, 16),  # area: one axis keeps its length
        (40, 9, 12),  # bilinear: one axis grows
        (6, 5, 9),  # bilinear, odd size
        (1, 1, 8),
        (1, 30, 4),
        (3, 2, 1),
        (1, 1, 1),
    ],
)
def test_inject_agrees_with_the_definitions(height: int, width: int, size: int) -> None:
    frames = [random_frame(height, width, seed) for seed in range(2)]
    image, x_t = inject(frames, "BGR", size, scale=2.0, offset=-1.0, seed=5, counter=9)
    for b, frame in enumerate(frames):
        expected = to_image(frame, size, (-1.0, 1.0))
        np.testing.assert_allclose(image[b], expected, atol=2e-6, rtol=0)
        for index in range(2):
            noise = normal((3, size, size), seed=5, lambda_index=index, frame_counter=9)
            noisy = SIGNAL[index] * image[b] + NOISE[index] * noise
            np.testing.assert_allclose(x_t[2 * index + b], noisy, rtol=1e-6, atol=1e-6)


def test_fresh_noise_advances_with_the_frame() -> None:
    frame = random_frame(8, 8)
    last = (1 << 32) - 1  # the second frame carries into the high word
    _, fixed = inject([frame, frame], "BGR", 8, counter=last, advance=0)
    _, fresh = inject([frame, frame], "BGR", 8, counter=last, advance=1)
    _, alone = inject([frame], "BGR", 8, counter=last + 1)
    np.testing.assert_array_equal(fixed[0], fixed[1])
    np.testing.assert_array_equal(fresh[[0, 2]], fixed[[0, 2]])
    np.testing.assert_array_equal(fresh[[1, 3]], alone)
    assert not np.array_equal(fresh[0], fresh[1])


def test_a_launch_fills_its_rows_of_a_larger_batch() -> None:
    frames = [random_frame(9, 11, seed) for seed in range(2)]
    image, x_t = inject(frames, "BGR", 6, counter=3, advance=1)
    placed_image, placed_x_t = inject(frames, "BGR", 6, counter=2, advance=1, first=1, after=1)
    np.testing.assert_array_equal(placed_image[1:3], image)
    np.testing.assert_array_equal(placed_x_t[[1, 2, 5, 6]], x_t)
    assert (placed_image[[0, 3]] == 77).all()
    assert (placed_x_t[[0, 3, 4, 7]] == 77).all()


@pytest.mark.parametrize("size", [8, 24])
def test_every_pixel_format_is_the_same_picture(size: int) -> None:
    frame = random_frame(12, 18)
    from_bgr, _ = inject([frame], "BGR", size)
    from_rgb, _ = inject([frame[..., ::-1]], "RGB", size, padding=0)
    np.testing.assert_array_equal(from_rgb, from_bgr)

    grey = np.ascontiguousarray(frame[..., 0])
    from_grey, _ = inject([grey], "GREY", size)
    from_grey_bgr, _ = inject([cv2.merge([grey] * 3)], "BGR", size)
    np.testing.assert_array_equal(from_grey, from_grey_bgr)


@pytest.mark.parametrize("size", [64, 16])
def test_nv12_is_the_picture_opencv_makes_of_it(size: int) -> None:
    planes = [random_frame(96, 64, seed)[..., 0] for seed in range(2)]
    image, _ = inject(planes, "NV12", size)
    for b, plane in enumerate(planes):
        frame = cv2.cvtColor(plane, cv2.COLOR_YUV2BGR_NV12)
        assert frame.shape == (64, 64, 3)
        expected = to_image(frame, size, (0.0, 1.0))
        np.testing.assert_allclose(image[b], expected, atol=1e-6, rtol=0)


def test_nv12_of_high_definition_has_the_colours_of_bt709() -> None:
    plane = random_frame(48, 32, 4)[..., 0]
    image, _ = inject([plane], "NV12_709", 32)
    luma = plane[:32].astype(float) - 16
    cb, cr = (plane[32:, i::2].repeat(2, 0).repeat(2, 1).astype(float) - 128 for i in (0, 1))
    weight_r, weight_b = 0.2126, 0.0722  # of ITU-R BT.709; the rest is green
    bright = np.maximum(luma, 0) / 219
    red = bright + cr / 112 * (1 - weight_r)
    blue = bright + cb / 112 * (1 - weight_b)
    green = (bright - weight_r * red - weight_b * blue) / (1 - weight_r - weight_b)
    expected = np.clip(np.stack([red, green, blue]), 0, 1)
    np.testing.assert_allclose(image[0], expected, atol=0.51 / 255)
    other, _ = inject([plane], "NV12", 32)
    assert np.abs(other - image).max() > 0.1


def test_black_and_white_are_the_ends_of_the_range() -> None:
    for size in (3, 10, 64):
        white, _ = inject([np.full((31, 47, 3), 255, np.uint8)], "BGR", size)
        black, _ = inject([np.zeros((31, 47, 3), np.uint8)], "BGR", size)
        assert (white == 1).all()
        assert (black == 0).all()


@pytest.mark.parametrize("size", [7, 16])
def test_half_tensors_are_the_float_ones_rounded_once(size: int) -> None:
    frame = random_frame(20, 30)
    image, x_t = inject([frame], "BGR", size)
    image_half, x_t_half = inject([frame], "BGR", size, kind="f16")
    np.testing.assert_array_equal(image_half, image.astype(np.float16))
    np.testing.assert_array_equal(x_t_half, x_t.astype(np.float16))
