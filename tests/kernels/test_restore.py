"""restore.cu against the formulas of the method in NumPy."""

from __future__ import annotations

import ctypes
import dataclasses
from typing import Literal

import numpy as np
import pytest
from kernel_host import NOISE, SIGNAL, Array, blocks_of_four, guarded, launch
from tiny import TINY

from dad_edge.runtime.cpu.ops import NumpyOps


def one_step(x_t: Array, eps: Array, index: int, low: float, high: float) -> Array:
    return np.clip((x_t - NOISE[index] * eps) / SIGNAL[index], low, high)


def random_tensors(count: int, shape: tuple[int, ...], kind: str) -> list[Array]:
    rng = np.random.default_rng(1)
    dtype = np.float32 if kind == "f32" else np.float16
    return [rng.normal(size=shape).astype(dtype) for _ in range(count)]


# One unit in the last place of a half in [1, 2), where the reference is not rounded.
@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 1e-6), ("f16", 2**-11)])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_restore_is_equation_5(size: int, kind: str, tolerance: float) -> None:
    batch, elements = 3, 3 * size * size
    [image] = random_tensors(1, (batch, 3, size, size), kind)
    x_t, eps = random_tensors(2, (2 * batch, 3, size, size), kind)
    eps[4, 1, 0, 0] = np.nan
    broken, check_broken = guarded((batch,), np.uint32)
    broken[:] = 0
    out, check = guarded((2 * batch, 6, size, size), image.dtype)
    launch(
        f"restore_{kind}",
        (blocks_of_four(elements, 32), 2 * batch),
        32,
        image,
        x_t,
        eps,
        out,
        broken,
        ctypes.c_int(size),
        ctypes.c_int(batch),
        SIGNAL,
        NOISE,
        ctypes.c_float(-1.0),
        ctypes.c_float(1.0),
    )
    check()
    for row in range(2 * batch):
        np.testing.assert_array_equal(out[row, :3], image[row % batch])
        x0 = one_step(x_t[row].astype(np.float32), eps[row], row // batch, -1, 1)
        np.testing.assert_allclose(out[row, 3:], x0, rtol=0, atol=tolerance)
    assert np.isnan(out).sum() == 1
    assert broken.tolist() == [0, 1, 0], "of the image, whichever time step it is"
    check_broken()
    if size == 8:
        assert (np.abs(out[:, 3:]) == 1).any(), "nothing was clamped"


@pytest.mark.parametrize(("kind", "tolerance"), [("f32", 2e-6), ("f16", 2**-11)])
@pytest.mark.parametrize("size", [1, 5, 8])
def test_norm_guided_restore(size: int, kind: str, tolerance: float) -> None:
    batch, weight = 2, 0.7
    image, x_n, eps_n, x_m, eps_m = random_tensors(5, (batch, 3, size, size), kind)
    broken = np.zeros(batch, np.uint32)
    out, check = guarded((batch, 6, size, size), image.dtype)
    launch(
        f"restore_guided_{kind}",
        (blocks_of_four(3 * size * size, 32), batch),
        32,
        *(image, x_n, eps_n, x_m, eps_m, out, broken),
        ctypes.c_int(size),
        *(ctypes.c_float(value) for value in (SIGNAL[0], NOISE[0], SIGNAL[1], NOISE[1])),
        ctypes.c_float(weight),
        ctypes.c_float(0.0),
        ctypes.c_float(1.0),
    )
    check()
    x_n, eps_n, x_m, eps_m = (a.astype(np.float64) for a in (x_n, eps_n, x_m, eps_m))
    guide = SIGNAL[0] * one_step(x_m, eps_m, 1, 0, 1) + NOISE[0] * eps_n
    guided = eps_n - weight * NOISE[0] * (guide - x_n)
    np.testing.assert_array_equal(out[:, :3], image)
    np.testing.assert_allclose(out[:, 3:], one_step(x_n, guided, 0, 0, 1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("fusion", ["average", "norm_guided"])
def test_restore_is_the_numpy_backend(fusion: Literal["average", "norm_guided"]) -> None:
    size, batch = TINY.image_size, 2
    [image] = random_tensors(1, (batch, 3, size, size), "f32")
    x_t, eps = random_tensors(2, (2 * batch, 3, size, size), "f32")
    reference = NumpyOps(dataclasses.replace(TINY, fusion=fusion), alpha_bar=SIGNAL**2)
    expected = reference.restore(x_t, eps, image)
    out, broken = np.empty_like(expected), np.zeros(batch, np.uint32)
    grid = (blocks_of_four(3 * size * size, 64), len(out))
    limits = (ctypes.c_float(-1.0), ctypes.c_float(1.0))
    if fusion == "average":
        pointers = (image, x_t, eps, out, broken)
        steps = (ctypes.c_int(batch), SIGNAL, NOISE)
    else:
        pointers = (image, x_t[:batch], eps[:batch], x_t[batch:], eps[batch:], out, broken)
        steps = tuple(ctypes.c_float(v) for v in (SIGNAL[0], NOISE[0], SIGNAL[1], NOISE[1], 1.0))
    kernel = "restore_f32" if fusion == "average" else "restore_guided_f32"
    launch(kernel, grid, 64, *pointers, ctypes.c_int(size), *steps, *limits)
    np.testing.assert_allclose(out, expected, rtol=0, atol=2e-6)
    assert not broken.any()
    for place in (0, batch):
        for value in (np.inf, -np.inf, np.nan):
            spoiled, broken = eps.copy(), np.zeros(batch, np.uint32)
            spoiled[place + 1, 2, 5, 6] = value
            pointers = (image, x_t, spoiled, out, broken)
            if fusion == "norm_guided":
                parts = (x_t[:batch], spoiled[:batch], x_t[batch:], spoiled[batch:])
                pointers = (image, *parts, out, broken)
            launch(kernel, grid, 64, *pointers, ctypes.c_int(size), *steps, *limits)
            assert broken.tolist() == [0, 1], "no clamp hides it"
