"""Histograms and the three ways to read a range from them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from onnxruntime.quantization.calibrate import HistogramCollector

from benchmarks.ranges import BINS, Histogram
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


def test_an_activation_that_is_no_number_is_said() -> None:
    with pytest.raises(ModelError, match="not a finite number"):
        _histogram(np.array([1.0, np.inf]))
