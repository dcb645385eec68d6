"""The noise of `dad_edge.model.philox` in PyTorch, on any device."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from dad_edge.model.philox import (
    KEY_STEP_0,
    KEY_STEP_1,
    MULTIPLIER_0,
    MULTIPLIER_1,
    ROUNDS,
)

WORD = 0xFFFFFFFF
HALF = 0xFFFF


def _multiply(factor: int, word: Tensor) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of a 32×32-bit product; int64 has no room for the whole of it."""
    lower = factor * (word & HALF)
    upper = factor * (word >> 16) + (lower >> 16)
    return upper >> 16, (upper & HALF) << 16 | lower & HALF


def philox4x32(counter: Sequence[Tensor], key: tuple[int, int]) -> list[Tensor]:
    """Encrypt counters with Philox4x32-10.

    Args:
        counter: four (N,) int64 with values of 32 bits.
        key: two words of 32 bits.

    Returns:
        Four (N,) int64 with values of 32 bits.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high0, low0 = _multiply(MULTIPLIER_0, c0)
        high1, low1 = _multiply(MULTIPLIER_1, c2)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + KEY_STEP_0) & WORD, (k1 + KEY_STEP_1) & WORD
    return [c0, c1, c2, c3]


def normal(
    shape_CHW: tuple[int, int, int],
    *,
    seed: int,
    lambda_index: int,
    frame_counter: int,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Standard normal noise ε of one image and one time step, as `philox.normal` makes it.

    Returns:
        (C,H,W) float32 on `device`; evaluated in float64 and rounded once.
    """
    size = math.prod(shape_CHW)
    block = torch.arange(-(-size // 4), device=device)
    rest = (lambda_index, frame_counter & WORD, frame_counter >> 32)
    counter = [block, *(torch.full_like(block, word) for word in rest)]
    words = philox4x32(counter, (seed & WORD, seed >> 32))
    uniform = [((word >> 9).double() + 0.5) * 2.0**-23 for word in words]
    normals = []
    for across, around in (uniform[:2], uniform[2:]):
        radius, angle = (-2 * across.log()).sqrt(), 2 * math.pi * around
        normals += [radius * angle.cos(), radius * angle.sin()]
    return torch.stack(normals, dim=1).reshape(-1)[:size].reshape(shape_CHW).float()
