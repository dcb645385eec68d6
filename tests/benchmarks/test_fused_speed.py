"""The study of the fused runtime on PyTorch: it needs a GPU and says so."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from dad_edge.machine.gpu import describe_nvidia


def test_without_a_gpu_it_says_why() -> None:
    if describe_nvidia()["gpus"]:
        pytest.skip("there is a GPU")
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.fused_speed"], cwd=root, capture_output=True, text=True
    )
    assert done.returncode == 6
    assert [line.split(":")[0] for line in done.stderr.splitlines()] == ["error", "next"]
