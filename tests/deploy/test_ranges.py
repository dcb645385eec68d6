"""Histograms and the three ways to read a range from them."""

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
from onnxruntime.quantization.calibrate import HistogramCollector
from small_networks import small_denoiser, small_segmenter

from dad_edge.deploy.ranges import BINS, Histogram, Observer
from dad_edge.errors import ModelError


def _histogram(*parts: np.ndarray) -> Histogram:
    histogram = Histogram()
    for part in parts:
        histogram.add(part.astype(np.float32))
    return histogram


@pytest.fixture(scope="module")
def normal() -> np.ndarray:
    return np.random.default_rng(0).standard_normal(200_000).astype(np.float32)


def test_min_max_is_exact_and_the_order_of_the_images_does_not_matter(normal: np.ndarray) -> None:
    parts = [normal[:1000], normal[1000:] * 7, np.zeros(5), np.array([-40.0]), np.full(3, 1e-5)]
    first = _histogram(*parts)
    assert first.range("min-max") == (-40.0, float((normal[1000:] * np.float32(7)).max()))
    assert first.top == 64
    assert first.counts.sum() == sum(part.size for part in parts)
    for order in itertools.islice(itertools.permutations(parts), 0, None, 17):
        other = _histogram(*order)
        assert np.array_equal(other.counts, first.counts)
        assert other.range("percentile") == first.range("percentile")
    assert _histogram(*parts[::-1]).range("entropy") == first.range("entropy")


def test_percentile_is_that_of_the_magnitudes(normal: np.ndarray) -> None:
    low, high = _histogram(normal).range("percentile")
    expected = np.quantile(np.abs(normal), 0.9999)
    assert high == -low == pytest.approx(expected, abs=2 * 8 / BINS)
    one_sided = _histogram(np.abs(normal)).range("percentile")
    assert one_sided == (np.abs(normal).min(), high), "what is not there is not in the range"


def test_entropy_clips_what_is_rare_and_keeps_what_is_common(normal: np.ndarray) -> None:
    flat = np.random.default_rng(1).uniform(-1, 1, 200_000)
    assert _histogram(flat).range("entropy")[1] > 0.95
    outlier = _histogram(normal, np.array([200.0]))
    assert 2 < outlier.range("entropy")[1] < 20
    many_zeros = _histogram(normal.clip(0), np.zeros(2_000_000))
    assert many_zeros.range("entropy")[1] > 2.5, "zeros do not pull the range down"


def test_entropy_is_near_that_of_onnxruntime(
    normal: np.ndarray, capsys: pytest.CaptureFixture[str]
) -> None:
    collector = HistogramCollector("entropy", True, 2049, 255, 99.99, "same")
    collector.collect({"x": normal})
    (other,) = collector.compute_collection_result().values()
    capsys.readouterr()
    ours = _histogram(normal).range("entropy")[1]
    # Both minima are shallow for a normal distribution: another bin width moves them this far.
    assert ours == pytest.approx(float(np.max(other[1])), rel=0.25)


@pytest.mark.parametrize("method", ["min-max", "percentile", "entropy"])
def test_a_tensor_that_is_always_zero_has_the_range_zero(method: str) -> None:
    assert _histogram(np.zeros(9), np.zeros(3)).range(method) == (0.0, 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_activation_that_is_no_number_is_said(value: float) -> None:
    with pytest.raises(ModelError, match="not a finite number"):
        _histogram(np.array([1.0, value]))


def test_the_observer_counts_the_inputs_of_every_convolution(tmp_path: Path) -> None:
    onnx.save(small_denoiser(), tmp_path / "denoiser.onnx")
    onnx.save(small_segmenter(), tmp_path / "segmenter.onnx")
    denoiser = Observer(tmp_path / "denoiser.onnx")
    x_t = np.random.default_rng(0).standard_normal((2, 3, 32, 32)).astype(np.float32)
    assert set(denoiser.run({"x_t": x_t})) == {"noise"}
    denoiser.run({"x_t": 2 * x_t})
    assert set(denoiser.histograms) == {"x_t", "down", "both", "merged"}
    assert denoiser.ranges("min-max")["x_t"] == (float(2 * x_t.min()), float(2 * x_t.max()))
    assert denoiser.histograms["both"].counts.sum() == 2 * 2 * 16 * 32 * 32
    assert set(Observer(tmp_path / "segmenter.onnx").histograms) == {"pair", "one", "two"}


def test_memory_does_not_grow_with_the_images(tmp_path: Path) -> None:
    """Four more images would add 100 MiB if anything were kept of them."""
    onnx.save(small_denoiser(), tmp_path / "denoiser.onnx")
    code = f"""
import resource, sys
import numpy as np
from pathlib import Path
from dad_edge.deploy.ranges import Observer
observer = Observer(Path({str(tmp_path / "denoiser.onnx")!r}))
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
