"""Gaussian noise that is the same everywhere: Philox4x32-10 and Box-Muller.

The stream is a pure function of (seed, λ index, frame counter, element index), so it needs no state
and any element can be made on its own. `kernels/philox.cuh` is the same definition in CUDA.

    key     = (seed low, seed high)                                  32-bit words
    counter = (element index // 4, λ index, frame counter low, frame counter high)
    x0..x3  = Philox4x32-10(counter, key)
    u(x)    = ((x >> 9) + 0.5) / 2^23        exact in float32, inside the open interval (0, 1)
    normals = r(x0)·cos θ(x1), r(x0)·sin θ(x1), r(x2)·cos θ(x3), r(x2)·sin θ(x3)
              with r(x) = √(-2 ln u(x)), θ(x) = 2π u(x)

Element i (channel, row, column order) takes normal number i % 4 of block i // 4. The integers are
equal bit for bit in every implementation; the normals here are evaluated in float64 and rounded
once, so an implementation in float32 differs by a few units in the last place.

Source: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10
MULTIPLIER_0 = 0xD2511F53
MULTIPLIER_1 = 0xCD9E8D57
KEY_STEP_0 = 0x9E3779B9
KEY_STEP_1 = 0xBB67AE85
_LOW = np.uint64(0xFFFFFFFF)
_HIGH_SHIFT = np.uint64(32)


def philox4x32(counter: NDArray[np.uint32], key: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Encrypt counters with Philox4x32-10.

    Args:
        counter: (N,4) uint32.
        key: (2,) uint32.

    Returns:
        (N,4) uint32, uniform over all 32-bit words.
    """
    c0, c1, c2, c3 = (np.ascontiguousarray(counter[:, i], dtype=np.uint64) for i in range(4))
    k0, k1 = int(key[0]), int(key[1])
    for _ in range(ROUNDS):
        product0 = c0 * np.uint64(MULTIPLIER_0)
        product1 = c2 * np.uint64(MULTIPLIER_1)
        c0 = (product1 >> _HIGH_SHIFT) ^ c1 ^ np.uint64(k0)
        c1 = product1 & _LOW
        c2 = (product0 >> _HIGH_SHIFT) ^ c3 ^ np.uint64(k1)
        c3 = product0 & _LOW
        k0 = (k0 + KEY_STEP_0) & 0xFFFFFFFF
        k1 = (k1 + KEY_STEP_1) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3], axis=1).astype(np.uint32)


def normal(
    shape_CHW: tuple[int, int, int], *, seed: int, lambda_index: int, frame_counter: int
) -> NDArray[np.float32]:
    """Standard normal noise ε of one image and one time step (Eq. 2).

    Args:
        shape_CHW: channels, height, width; fewer than 2^34 elements.
        seed: 0 to 2^64 - 1, the key.
        lambda_index: position of the time step in the model's λ list, 0 to 2^32 - 1.
        frame_counter: 0 to 2^64 - 1; keep it fixed for scores that repeat.

    Returns:
        (C,H,W) float32.

    Raises:
        ValueError: a number is outside its range.
    """
    size = math.prod(shape_CHW)
    blocks = -(-size // 4)
    for name, value, bits in (
        ("seed", seed, 64),
        ("lambda_index", lambda_index, 32),
        ("frame_counter", frame_counter, 64),
    ):
        if not 0 <= value < 1 << bits:
            raise ValueError(f"{name} must be 0 to 2^{bits} - 1, not {value}")
    if blocks > 1 << 32:
        raise ValueError(f"shape {shape_CHW} has more elements than one noise stream (2^34)")

    counter = np.empty((blocks, 4), dtype=np.uint32)
    counter[:, 0] = np.arange(blocks, dtype=np.uint64)
    counter[:, 1] = lambda_index
    counter[:, 2] = frame_counter & 0xFFFFFFFF
    counter[:, 3] = frame_counter >> 32
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], dtype=np.uint32)

    uniform = ((philox4x32(counter, key) >> np.uint32(9)) + 0.5) * 2.0**-23
    radius = np.sqrt(-2.0 * np.log(uniform[:, 0::2]))
    angle = 2.0 * np.pi * uniform[:, 1::2]
    noise = np.empty((blocks, 4), dtype=np.float32)
    noise[:, 0::2] = radius * np.cos(angle)
    noise[:, 1::2] = radius * np.sin(angle)
    return noise.reshape(-1)[:size].reshape(shape_CHW)
