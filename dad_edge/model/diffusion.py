"""The forward process and the one-step estimate: pure functions, the same for NumPy and PyTorch.

Arrays are `numpy.ndarray` or `torch.Tensor`; `alpha_bar` is a number or an array that broadcasts
against them. Only operators and `.clip` are used, so that training, export, the runtime's
reference and the tests share one definition.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ScheduleConfig

A = TypeVar("A")

CLAMP = (-1.0, 1.0)
"""Range of x̂0, as in the authors' code."""


def alpha_bar_table(schedule: ScheduleConfig) -> NDArray[np.float64]:
    """ᾱ_t = ∏ (1-β_i) for a linear schedule (Eq. 2).

    Returns:
        (T,) float64; index t is the time step, counted from 0 as in the authors' code, so that
        entry t is the product of the first t + 1 factors.
    """
    betas = np.linspace(schedule.beta_start, schedule.beta_end, schedule.timesteps)
    return np.asarray(np.cumprod(1.0 - betas), dtype=np.float64)


def corrupt(image: A, noise: A, alpha_bar: A | float) -> A:
    """x_t = √ᾱ · x_0 + √(1-ᾱ) · ε (Eq. 2)."""
    return alpha_bar**0.5 * image + (1 - alpha_bar) ** 0.5 * noise  # type: ignore[operator, no-any-return]


def one_step_estimate(x_t: A, noise: A, alpha_bar: A | float) -> A:
    """x̂0 = (x_t - √(1-ᾱ) · ε̂) / √ᾱ (Eq. 5), not clamped."""
    return (x_t - (1 - alpha_bar) ** 0.5 * noise) / alpha_bar**0.5  # type: ignore[operator, no-any-return]


def clamp(estimate: A) -> A:
    """x̂0 limited to the range that the segmenter sees."""
    return estimate.clip(*CLAMP)  # type: ignore[attr-defined, no-any-return]


def guided_noise(
    x_n: A, noise_n: A, estimate_m: A, alpha_bar_n: A | float, weight: float = 1.0
) -> A:
    """Norm-guided noise ε̂ of the journal version.

    x̃ = √ᾱ_n · x̂0_m + √(1-ᾱ_n) · ε_n, ε̂ = ε_n - w √(1-ᾱ_n) (x̃ - x_n).

    Args:
        x_n: x_t at the smaller time step.
        noise_n: predicted noise of `x_n`.
        estimate_m: clamped x̂0 from the larger time step.
        alpha_bar_n: ᾱ at the smaller time step.
        weight: w.
    """
    guide = corrupt(estimate_m, noise_n, alpha_bar_n)
    return noise_n - weight * (1 - alpha_bar_n) ** 0.5 * (guide - x_n)  # type: ignore[operator, no-any-return]
