"""The formats of the study are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, numpy_helper
from small_networks import small_denoiser

from benchmarks.number_formats import PlainEngine, rounded_to_bf16, to_bf16, to_fp8

RANGES = {"down": (-0.3, 2.4), "both": (-2.0, 5.5)}


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((2, 3, 32, 32)).astype(np.float32)


@pytest.mark.parametrize("name", ["bf16", "fp8"])
def test_formats_err_as_much_as_their_mantissa_says(name: str, noisy: np.ndarray) -> None:
    plain = small_denoiser()
    graph = rounded_to_bf16(plain) if name == "bf16" else to_fp8(plain, RANGES)
    expected = PlainEngine(plain).run({"x_t": noisy})["noise"]
    found = PlainEngine(graph).run({"x_t": noisy})["noise"]
    relative = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    # Rounding errs by up to 2^-9 with eight bits and 2^-4 with four, on average by a third of it.
    assert {"bf16": 5e-4, "fp8": 1e-2}[name] < relative < {"bf16": 1e-2, "fp8": 8e-2}[name]


def test_weights_keep_eight_bits_in_bf16_and_four_in_fp8() -> None:
    plain = {w.name: numpy_helper.to_array(w) for w in small_denoiser().graph.initializer}
    half = {w.name: w for w in to_bf16(small_denoiser()).graph.initializer}
    weight = half["w_merge_fp16"]
    assert weight.data_type == TensorProto.BFLOAT16
    kept = numpy_helper.to_array(weight).astype(np.float32)
    np.testing.assert_allclose(kept, plain["w_merge"], rtol=2**-8)
    assert not np.array_equal(kept, plain["w_merge"])
    eight = {
        w.name: numpy_helper.to_array(w) for w in to_fp8(small_denoiser(), RANGES).graph.initializer
    }
    scaled = eight["w_merge_q"].astype(np.float32) * eight["w_merge_scale"][:, None, None, None]
    large = np.abs(plain["w_merge"]) > 1e-3
    np.testing.assert_allclose(scaled[large], plain["w_merge"][large], rtol=2**-4 + 1e-3)
