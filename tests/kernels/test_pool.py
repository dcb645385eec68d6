"""pool.cu against NumPy: the map, its picture and the exact top-K mean."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import pytest
from kernel_host import Array, blocks_of_four, guarded, launch
from tiny import TINY

from dad_edge.runtime.cpu.ops import NumpyOps


def dirty_counts(batch: int) -> Array:
    """What an earlier frame left behind, or a launch that failed half way."""
    return np.full((batch, 3, 2048), 5, np.uint32)


def pool_map(
    masks: Array, batch: int, keep: Array | None, broken: Array | None = None
) -> tuple[Array, Array]:
    size = masks.shape[-1]
    broken = np.zeros(batch, np.uint32) if broken is None else broken
    anomaly_map, check_map = guarded((batch, size, size), np.float32)
    heat, check_heat = guarded((batch, size, size), np.uint8)
    launch(
        "pool_map_f32" if masks.dtype == np.float32 else "pool_map_f16",
        (blocks_of_four(size * size, 32), batch),
        32,
        *(masks, keep, broken, anomaly_map, heat, dirty_counts(batch)),
        ctypes.c_int(size),
        ctypes.c_int(len(masks) // batch),
    )
    check_map()
    check_heat()
    return anomaly_map, heat


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize(("size", "lambdas"), [(1, 1), (5, 3), (8, 2)])
def test_the_map_is_the_mean_over_time_steps(size: int, lambdas: int, dtype: Any) -> None:
    rng = np.random.default_rng(2)
    masks = rng.random((lambdas * 2, 1, size, size)).astype(dtype)
    keep = (rng.random((size, size)) < 0.7).astype(np.uint8)
    mean = masks.astype(np.float32).reshape(lambdas, 2, size, size).mean(axis=0)
    for ignore in (None, keep):
        anomaly_map, heat = pool_map(masks, 2, ignore)
        expected = mean if ignore is None else mean * ignore
        np.testing.assert_allclose(anomaly_map, expected, rtol=1e-6)
        np.testing.assert_array_equal(heat, np.rint(anomaly_map * np.float32(255)))


def test_the_heat_scale_is_fixed_and_never_hides_a_nan() -> None:
    values = [0, 0.5 / 255 + 1e-6, 1.5 / 255 - 1e-6, 1, 2, -1, np.inf, -np.inf, np.nan]
    masks = np.array(values, dtype=np.float32).reshape(1, 1, 3, 3)
    anomaly_map, heat = pool_map(masks, 1, None)
    np.testing.assert_array_equal(anomaly_map, masks[0])
    assert heat.ravel().tolist() == [0, 1, 1, 255, 255, 0, 255, 0, 255]


def test_the_map_of_a_broken_frame_is_no_number() -> None:
    masks = np.full((2, 1, 3, 3), 0.5, np.float32)
    keep = np.ones((3, 3), np.uint8)
    keep[0] = 0
    anomaly_map, heat = pool_map(masks, 2, keep, np.array([0, 1], np.uint32))
    assert (anomaly_map[:, 0] == 0).all()
    assert (anomaly_map[0, 1:] == 0.5).all()
    assert np.isnan(anomaly_map[1, 1:]).all()
    assert (heat[1, 1:] == 255).all()
    assert np.isnan(pool_score(anomaly_map, 2, keep)).tolist() == [False, True]


@pytest.mark.parametrize("threads", [32, 256])
def test_pool_is_the_numpy_backend(threads: int) -> None:
    size = TINY.image_size
    rng = np.random.default_rng(6)
    masks = rng.random((2 * len(TINY.lambdas), 1, size, size)).astype(np.float32) ** 4
    masks[1, 0, 3, 4] = np.nan
    reference = NumpyOps(TINY, alpha_bar=(0.9, 0.7)).pool(masks, 2)
    anomaly_map, heat = pool_map(masks, 2, None)
    np.testing.assert_array_equal(anomaly_map, reference.score_map)
    np.testing.assert_array_equal(heat, reference.heat)
    scores = pool_score(anomaly_map, TINY.top_k, threads=threads)
    np.testing.assert_array_equal(scores, reference.scores)
    assert np.isnan(scores).tolist() == [False, True]


def pool_score(
    maps: Array, k: int, keep: Array | None = None, threads: int = 16, blocks: int = 2
) -> list[float]:
    batch, size = maps.shape[:2]
    score, check = guarded((batch,), np.float32)
    counts, check_counts = guarded((batch, 3, 2048), np.uint32)
    counts[:] = 0
    sizes = ctypes.c_int(size), ctypes.c_int(k)
    for digit in range(3):
        place = ctypes.c_int(digit)
        launch("pool_count", (blocks, batch), threads, maps, keep, counts, *sizes, place)
    launch("pool_score", (batch, 1), threads, maps, keep, counts, score, *sizes)
    check()
    check_counts()
    return score.tolist()


def top_mean(values: Array, k: int) -> float:
    return float(np.float32(np.sort(values.ravel().astype(np.float64))[::-1][:k].mean()))


@pytest.mark.parametrize(("threads", "blocks"), [(1, 1), (7, 3), (64, 2), (300, 1)])
@pytest.mark.parametrize("k", [1, 50, 168, 169, 5000])
def test_score_is_the_exact_mean_of_the_largest(k: int, threads: int, blocks: int) -> None:
    rng = np.random.default_rng(3)
    smooth = rng.random((13, 13))
    tied = rng.integers(0, 4, (13, 13)) / 3
    signed = rng.normal(size=(13, 13)) * 10.0 ** rng.integers(-42, 30, (13, 13))
    close = 0.5 + rng.integers(0, 300, (13, 13)) * 2.0**-24
    maps = np.stack([smooth, tied, signed, close, np.full((13, 13), 0.25)]).astype(np.float32)
    scores = pool_score(maps, k, threads=threads, blocks=blocks)
    np.testing.assert_allclose(scores, [top_mean(m, k) for m in maps], rtol=1e-7)


def test_counts_of_an_earlier_frame_are_cleared() -> None:
    for size in (5, 64):  # fewer threads than counts, and more
        counts, masks = dirty_counts(2), np.zeros((2, 1, size, size), np.float32)
        anomaly_map = np.zeros((2, size, size), np.float32)
        heat = np.zeros((2, size, size), np.uint8)
        launch(
            "pool_map_f32",
            (blocks_of_four(size * size, 32), 2),
            32,
            *(masks, None, np.zeros(2, np.uint32), anomaly_map, heat, counts),
            *(ctypes.c_int(size), ctypes.c_int(1)),
        )
        assert not counts.any()


def test_score_with_a_full_block() -> None:
    maps = np.random.default_rng(4).random((1, 64, 64)).astype(np.float32) ** 8
    assert pool_score(maps, 50, threads=1024) == [top_mean(maps, 50)]


def test_ignored_pixels_do_not_count() -> None:
    maps = np.random.default_rng(5).random((1, 6, 6)).astype(np.float32) - 2
    keep = np.zeros((6, 6), dtype=np.uint8)
    keep[2:4, 1:6] = 255
    maps[0, 0, 0] = np.nan
    counted = maps[0][keep > 0]
    assert pool_score(maps, 4, keep) == [top_mean(counted, 4)]
    assert pool_score(maps, 36, keep) == [top_mean(counted, 10)]
    assert np.isnan(pool_score(maps, 4, np.zeros_like(keep))).all()


def test_scores_of_maps_that_are_not_finite() -> None:
    infinity = np.inf
    cases = [
        ([0.5, np.nan, 0.1, 0.2], 1, np.nan),
        ([0.5, -np.nan, infinity, 0.2], 1, np.nan),
        ([0.5, infinity, 0.1, 0.2], 2, np.nan),
        ([0.5, -infinity, 0.1, 0.2], 3, np.nan),
        ([infinity, -infinity, 0.1, 0.2], 4, np.nan),
        ([-0.0, 0.0, -0.0, 0.0], 3, 0.0),
        ([3.0e38, 3.0e38, 3.0e38, -3.0e38], 3, 3.0e38),
    ]
    for values, k, expected in cases:
        [score] = pool_score(np.array(values, np.float32).reshape(1, 2, 2), k)
        np.testing.assert_allclose(score, expected, rtol=1e-7)
