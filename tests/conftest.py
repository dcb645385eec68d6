"""Fixtures that all tests share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other are slow on a busy machine

import numpy as np
import pytest
from tiny import make_tiny_bundle

from dad_edge.bundle import Bundle

if TYPE_CHECKING:
    from fake_cuda import FakeDriver


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Bundle:
    """A small bundle that tells dark frames (good) from bright ones (defects)."""
    return make_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def dark_frame() -> np.ndarray:
    """(48,64,3) uint8 frame that the tiny bundle calls good."""
    return np.random.default_rng(0).integers(0, 60, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def bright_frame() -> np.ndarray:
    """(48,64,3) uint8 frame that the tiny bundle calls a defect."""
    return np.random.default_rng(1).integers(200, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine has proved itself on this machine before."""
    monkeypatch.setattr("dad_edge.runtime.proof.user_cache", lambda: tmp_path / "cache of proofs")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A CUDA driver on host memory in the place of the real one."""
    from fake_cuda import FakeDriver

    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    return fake
