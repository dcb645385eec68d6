from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dad_edge.config import ScheduleConfig
from dad_edge.model.diffusion import (
    alpha_bar_table,
    clamp,
    corrupt,
    guided_noise,
    one_step_estimate,
)


@pytest.fixture(scope="module")
def pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.random((2, 3, 8, 8)), rng.normal(size=(2, 3, 8, 8))


@pytest.mark.parametrize("beta_end", [1e-2, 2e-2])
def test_the_table_is_the_product_of_equation_2(beta_end: float) -> None:
    table = alpha_bar_table(ScheduleConfig(beta_end=beta_end))
    assert table.shape == (1000,)
    product = 1.0
    for step in range(1000):
        product *= 1 - (1e-4 + (beta_end - 1e-4) * step / 999)
        assert table[step] == pytest.approx(product, rel=1e-12)
    assert (np.diff(table) < 0).all()


def test_corrupt_is_equation_2(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, noise = pair
    expected = math.sqrt(0.7) * image + math.sqrt(1 - 0.7) * noise
    np.testing.assert_allclose(corrupt(image, noise, 0.7), expected, rtol=1e-12)


@pytest.mark.parametrize("step", [0, 100, 200, 999])
def test_equation_5_inverts_equation_2(pair: tuple[np.ndarray, np.ndarray], step: int) -> None:
    image, noise = pair
    alpha_bar = float(alpha_bar_table(ScheduleConfig())[step])
    restored = one_step_estimate(corrupt(image, noise, alpha_bar), noise, alpha_bar)
    np.testing.assert_allclose(restored, image, rtol=0, atol=1e-12)


def test_clamp_keeps_the_segmenters_range() -> None:
    assert clamp(np.array([-3.0, -1.0, 0.3, 4.0])).tolist() == [-1.0, -1.0, 0.3, 1.0]


def test_guided_noise_is_the_journal_versions_formula(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    estimate_m, noise_n = pair
    x_n = np.random.default_rng(1).normal(size=noise_n.shape)
    guide = math.sqrt(0.8) * estimate_m + math.sqrt(0.2) * noise_n
    expected = noise_n - 0.5 * math.sqrt(0.2) * (guide - x_n)
    made = guided_noise(x_n, noise_n, estimate_m, 0.8, weight=0.5)
    np.testing.assert_allclose(made, expected, rtol=1e-12)
    np.testing.assert_array_equal(guided_noise(x_n, noise_n, estimate_m, 0.8, 0.0), noise_n)


def test_numpy_and_torch_agree(pair: tuple[np.ndarray, np.ndarray]) -> None:
    image, noise = (values.astype(np.float32) for values in pair)
    alphas = np.array([0.9, 0.5], np.float32)[:, None, None, None]
    tensors = [torch.from_numpy(values) for values in (image, noise, alphas)]
    for function in (corrupt, one_step_estimate):
        np.testing.assert_allclose(
            function(*tensors).numpy(), function(image, noise, alphas), rtol=0, atol=1e-6
        )
    np.testing.assert_allclose(
        guided_noise(tensors[0], tensors[1], tensors[0], tensors[2]).numpy(),
        guided_noise(image, noise, image, alphas),
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_array_equal(clamp(tensors[1]).numpy(), clamp(noise))
