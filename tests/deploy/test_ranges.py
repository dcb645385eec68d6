"""The smallest and the largest activation of every convolution's input."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from small_networks import small_denoiser, small_segmenter

from dad_edge.deploy.ranges import MinMax, Observer
from dad_edge.errors import ModelError


def _range(*parts: np.ndarray) -> tuple[float, float]:
    meter = MinMax()
    for part in parts:
        meter.add(part.astype(np.float32))
    return meter.low, meter.high


def test_the_order_of_the_images_does_not_matter() -> None:
    values = np.random.default_rng(0).standard_normal(1000)
    parts = [values, np.zeros(5), np.array([-40.0]), np.full((3, 2), 7.5)]
    assert {_range(*order) for order in itertools.permutations(parts)} == {(-40.0, 7.5)}
    assert _range(np.zeros(9)) == (0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_activation_that_is_no_number_is_said(value: float) -> None:
    with pytest.raises(ModelError, match="not a finite number"):
        _range(np.array([1.0, value]))


def test_the_observer_watches_the_inputs_of_every_convolution(tmp_path: Path) -> None:
    onnx.save(small_denoiser(), tmp_path / "denoiser.onnx")
    onnx.save(small_segmenter(), tmp_path / "segmenter.onnx")
    denoiser = Observer(tmp_path / "denoiser.onnx", MinMax)
    x_t = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert set(denoiser.run({"x_t": x_t})) == {"noise"}
    denoiser.run({"x_t": 2 * x_t})
    assert set(denoiser.meters) == {"x_t", "down", "both", "merged"}
    seen = denoiser.meters["x_t"]
    assert (seen.low, seen.high) == (float(2 * x_t.min()), float(2 * x_t.max()))
    assert set(Observer(tmp_path / "segmenter.onnx", MinMax).meters) == {"pair", "one", "two"}


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Four more images would add 100 MiB if anything were kept of them."""
    onnx.save(small_denoiser(), tmp_path / "denoiser.onnx")
    code = f"""
import resource, sys
import numpy as np
from pathlib import Path
from dad_edge.deploy.ranges import MinMax, Observer
observer = Observer(Path({str(tmp_path / "denoiser.onnx")!r}), MinMax)
x_t = np.zeros((128, 3, 32, 32), np.float32)
for count in range(9):
    observer.run({{"x_t": x_t}})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    peaks = [float(line) for line in done.stdout.split()]
    assert peaks[8] - peaks[4] < 30, peaks
