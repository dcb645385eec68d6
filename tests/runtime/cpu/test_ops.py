"""The reference operations against formulas written out pixel by pixel."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from tiny import TINY

from dad_edge.config import ModelConfig
from dad_edge.image.preprocess import to_image
from dad_edge.model import philox
from dad_edge.runtime.cpu.ops import NumpyOps

ALPHAS = (0.9, 0.6)
GUIDED = replace(TINY, fusion="norm_guided", lambdas=(200, 400))


@pytest.fixture(scope="module")
def frames() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (40, 50, 3), dtype=np.uint8) for _ in range(3)]


def test_inject_is_equation_2_row_by_row(frames: list[np.ndarray]) -> None:
    image, x_t = NumpyOps(TINY, ALPHAS, seed=9).inject(frames, counter=4)
    assert image.shape == (3, 3, 32, 32)
    assert x_t.shape == (6, 3, 32, 32)
    assert x_t.dtype == image.dtype == np.float32
    for level, alpha in enumerate(ALPHAS):
        noise = philox.normal((3, 32, 32), seed=9, lambda_index=level, frame_counter=4)
        for row, frame in enumerate(frames):
            clean = to_image(frame, 32, (0.0, 1.0))
            np.testing.assert_array_equal(image[row], clean)
            expected = math.sqrt(alpha) * clean + math.sqrt(1 - alpha) * noise
            np.testing.assert_allclose(x_t[level * 3 + row], expected, rtol=0, atol=1e-6)


def test_the_counter_and_the_seed_change_the_noise(frames: list[np.ndarray]) -> None:
    ops = NumpyOps(TINY, ALPHAS, seed=1)
    first = ops.inject(frames, 0).x_t
    assert (ops.inject(frames, 1).x_t != first).any()
    np.testing.assert_array_equal(ops.inject(frames, 0).x_t, first)
    assert (NumpyOps(TINY, ALPHAS, seed=2).inject(frames, 0).x_t != first).any()


def drawn(model: ModelConfig, batch: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    shape = (len(model.lambdas) * batch, 3, 32, 32)
    x_t, noise = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    return x_t, noise, rng.random((batch, 3, 32, 32), dtype=np.float32)


@pytest.mark.parametrize("batch", [1, 2])
def test_restore_is_equation_5_row_by_row(batch: int) -> None:
    x_t, noise, image = drawn(TINY, batch)
    pair = NumpyOps(TINY, ALPHAS).restore(x_t, noise, image)
    assert pair.shape == (2 * batch, 6, 32, 32)
    assert pair.dtype == np.float32
    for level, alpha in enumerate(ALPHAS):
        for row in range(batch):
            index = level * batch + row
            estimate = (x_t[index] - math.sqrt(1 - alpha) * noise[index]) / math.sqrt(alpha)
            np.testing.assert_array_equal(pair[index, :3], image[row])
            np.testing.assert_allclose(pair[index, 3:], np.clip(estimate, -1, 1), rtol=0, atol=1e-5)
    assert (np.abs(pair[:, 3:]) == 1).any()


@pytest.mark.parametrize("batch", [1, 2])
def test_norm_guided_restore_is_the_journal_version(batch: int) -> None:
    x_t, noise, image = drawn(GUIDED, batch)
    pair = NumpyOps(GUIDED, ALPHAS).restore(x_t, noise, image)
    assert pair.shape == (batch, 6, 32, 32)
    n, m = ALPHAS
    for row in range(batch):
        x_n, eps_n, x_m, eps_m = x_t[row], noise[row], x_t[batch + row], noise[batch + row]
        x0_m = np.clip((x_m - math.sqrt(1 - m) * eps_m) / math.sqrt(m), -1, 1)
        guide = math.sqrt(n) * x0_m + math.sqrt(1 - n) * eps_n
        eps = eps_n - math.sqrt(1 - n) * (guide - x_n)
        expected = np.clip((x_n - math.sqrt(1 - n) * eps) / math.sqrt(n), -1, 1)
        np.testing.assert_array_equal(pair[row, :3], image[row])
        np.testing.assert_allclose(pair[row, 3:], expected, rtol=0, atol=1e-5)


def masks_of(*maps: np.ndarray) -> np.ndarray:
    """(L·B,1,S,S) with the same map at both λ."""
    return np.stack([*maps, *maps])[:, None].astype(np.float32)


def test_pool_averages_the_levels_and_the_highest_pixels() -> None:
    masks = np.random.default_rng(2).random((4, 1, 32, 32), dtype=np.float32)
    pooled = NumpyOps(TINY, ALPHAS).pool(masks, 2)
    for row in range(2):
        mean = (masks[row, 0].astype(float) + masks[2 + row, 0]) / 2
        np.testing.assert_allclose(pooled.score_map[row], mean, rtol=0, atol=1e-7)
        np.testing.assert_allclose(pooled.heat[row], mean * 255, rtol=0, atol=0.501)
        highest = sorted(mean.ravel())[-TINY.top_k :]
        assert pooled.scores[row] == pytest.approx(sum(highest) / TINY.top_k, abs=1e-6)
    assert pooled.heat.dtype == np.uint8
    assert pooled.scores.dtype == np.float32


def test_ties_at_the_kth_pixel_count_once() -> None:
    flat = np.zeros(32 * 32)
    flat[:15] = 0.9
    flat[100:200] = 0.5
    score = NumpyOps(TINY, ALPHAS).pool(masks_of(flat.reshape(32, 32)), 1).scores[0]
    assert score == pytest.approx((15 * 0.9 + 5 * 0.5) / 20, abs=1e-6)


@pytest.mark.parametrize("top_k", [1, 32 * 32])
def test_the_smallest_and_the_largest_k(top_k: int) -> None:
    masks = np.random.default_rng(3).random((2, 1, 32, 32), dtype=np.float32)
    mean = masks.astype(float).mean(axis=(0, 1))
    expected = mean.max() if top_k == 1 else mean.mean()
    score = NumpyOps(replace(TINY, top_k=top_k), ALPHAS).pool(masks, 1).scores[0]
    assert score == pytest.approx(expected, abs=1e-6)


def test_one_value_that_is_no_number_makes_that_score_no_number() -> None:
    broken, whole = np.zeros((32, 32)), np.full((32, 32), 0.25)
    broken[3, 4] = np.nan
    pooled = NumpyOps(TINY, ALPHAS).pool(masks_of(broken, whole), 2)
    assert math.isnan(pooled.scores[0])
    assert pooled.scores[1] == pytest.approx(0.25)
    assert pooled.heat[0, 3, 4] == 255
    assert pooled.heat[0].sum() == 255


def test_heat_has_a_fixed_scale() -> None:
    levels = np.linspace(0, 1, 32 * 32).reshape(32, 32)
    heat = NumpyOps(TINY, ALPHAS).pool(masks_of(levels), 1).heat[0]
    np.testing.assert_array_equal(heat, np.rint(levels.astype(np.float32) * 255))
    faint = NumpyOps(TINY, ALPHAS).pool(masks_of(levels / 100), 1).heat[0]
    assert faint.max() == 3
