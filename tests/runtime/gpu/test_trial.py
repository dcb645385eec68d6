"""The trial of the kernels, on a fake device: that it runs them, and says what is wrong."""

from __future__ import annotations

import sys

import pytest
from fake_cuda import FakeDriver

from dad_edge.errors import DeviceError, MissingDependency
from dad_edge.kernels import compile as kernel_compiler
from dad_edge.runtime.gpu import trial
from dad_edge.runtime.gpu.trial import try_kernels

pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")


def test_the_kernels_are_loaded_launched_and_given_back(driver: FakeDriver) -> None:
    assert try_kernels() == "Fake GPU"
    assert driver.calls["cuModuleLoadData"] == 3
    assert driver.calls["cuLaunchKernel"] > 0
    assert driver.left() == {}


def test_a_driver_that_refuses_them_is_no_loop(driver: FakeDriver) -> None:
    driver.fail("cuModuleLoadData", "CUDA_ERROR_INVALID_IMAGE")
    with pytest.raises(DeviceError, match="INVALID_IMAGE") as caught:
        try_kernels()
    assert "older one or update the driver" in caught.value.next_step
    assert driver.left() == {}


def test_a_wrong_result_is_no_success(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "_VALUE", 0.1)  # which FP32 cannot hold
    with pytest.raises(DeviceError, match=r"where 0\.1 is right"):
        try_kernels()
    assert driver.left() == {}


def test_a_compiler_of_a_later_major_version_than_the_drivers_is_refused(
    driver: FakeDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel_compiler, "_nvrtc_version", lambda: (13, 5))
    for cuda, right in (("12.6", False), ("13.0", True), ("14.0", True), (None, True)):
        found = {"cuda_version": cuda, "gpus": []}
        monkeypatch.setattr(kernel_compiler, "describe_nvidia", lambda found=found: found)
        if right:
            try_kernels()
            continue
        with pytest.raises(DeviceError, match=r"NVRTC 13\.5 .* it runs CUDA 12\.6") as caught:
            try_kernels()
        assert "dad-edge[jetpack6]" in caught.value.next_step


def test_it_is_not_there_without_the_bindings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingDependency, match="cuda"):
        try_kernels()
