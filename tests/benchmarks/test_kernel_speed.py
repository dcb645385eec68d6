"""The study of kernel times, on a fake device: what it counts, and that it gives all back."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import FakeDriver
from tiny import TINY

from benchmarks.kernel_speed import bytes_moved, measure, sample_masks
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.runtime.gpu.driver import Device

pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

GUIDED = replace(TINY, fusion="norm_guided", lambdas=(200, 400))


def test_every_kernel_has_its_time_and_its_bytes(driver: FakeDriver) -> None:
    device = Device()
    for model in (TINY, GUIDED):
        row = measure(device, model, 2, "f16", frame=(48, 64), repeats=2, flush_bytes=4096)
        assert row["copy_gbyte_per_s"] > 0
        assert list(row["kernels"]) == ["inject", "restore", "pool"]
        for kernel in row["kernels"].values():
            assert kernel["us"] > 0
            rate = kernel["bytes"] / kernel["us"] / 1e3
            assert kernel["gbyte_per_s"] == pytest.approx(rate, rel=0.1, abs=0.1)
    assert driver.calls["cuGraphLaunch"] == 2 * 4
    device.close()
    assert driver.left() == {}


def test_pool_is_timed_on_masks_that_look_like_masks() -> None:
    """Equal values would let every thread add up its whole run before it touches a counter."""
    for element in ("f32", "f16"):
        masks = sample_masks(GUIDED, 2, element).astype(np.float32)
        assert masks.shape == (2, 32, 32)
        assert sample_masks(TINY, 2, element).shape == (4, 32, 32)
        assert np.isfinite(masks).all()
        assert 0 <= masks.min() < 0.01 < np.mean(masks) < 0.1 < 0.8 < masks.max() <= 1
        digits = masks.astype(np.float32).view(np.uint32) >> 16 & 255
        assert len(np.unique(digits)) > 64
        changes = digits.reshape(2, -1)[:, 1:] != digits.reshape(2, -1)[:, :-1]
        assert changes.mean() > 0.5, "neighbours differ"


def test_the_bytes_are_those_of_the_tensors() -> None:
    image, plane = 3 * 32 * 32 * 4, 32 * 32
    moved = bytes_moved(TINY, 1, "f32", (10, 20))
    assert len(TINY.lambdas) == 2
    assert moved["inject"] == 600 + image + 2 * image
    assert moved["restore"] == (image + 4 * image) + 4 * image
    assert moved["pool"] == 2 * plane * 4 + 5 * plane + 4 * 4 * plane + 4
    guided = bytes_moved(GUIDED, 1, "f32", (10, 20))
    assert guided["restore"] == 5 * image + 2 * image


def test_without_a_gpu_it_says_why() -> None:
    if describe_nvidia()["gpus"]:
        pytest.skip("there is a GPU")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.kernel_speed"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 6
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "next"]
