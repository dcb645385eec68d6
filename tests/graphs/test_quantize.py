from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, numpy_helper
from small_networks import small_denoiser, small_segmenter

from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, Bundle, Calibration, open_bundle
from dad_edge.errors import ModelError
from dad_edge.graphs.lint import lint
from dad_edge.graphs.quantize import (
    convolutions,
    inner_convolutions,
    layer_name,
    to_fp16,
    to_int8,
    typed_graph,
)

RANGES = {"down": (-0.3, 2.4), "both": (-2.0, 5.5)}
"""Of the small denoiser's inner convolutions on standard normal noise."""


def _run(model: onnx.ModelProto, value: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.asarray(session.run(None, {model.graph.input[0].name: value})[0])


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return np.random.default_rng(3).standard_normal((4, 3, 32, 32)).astype(np.float32)


def test_fp16_graph_stays_near_fp32_and_keeps_its_interface(noisy: np.ndarray) -> None:
    model = small_denoiser()
    half = to_fp16(model)
    expected = _run(model, noisy)
    error = np.abs(_run(half, noisy) - expected).max()
    assert 0 < error < 2e-3 * np.abs(expected).max()
    for values in (half.graph.input, half.graph.output):
        assert values[0].type.tensor_type.elem_type == TensorProto.FLOAT
    types = {w.name: w.data_type for w in half.graph.initializer}
    assert types["w_middle_fp16"] == TensorProto.FLOAT16
    assert types["ones"] == types["doubling"] == TensorProto.FLOAT


def test_the_first_convolution_sees_what_fp16_would_round_away() -> None:
    """Two images that differ by less than FP16 resolves near 1, as image and estimate may."""
    model = small_segmenter()
    weight = next(w for w in model.graph.initializer if w.name == "w_stem")
    values = numpy_helper.to_array(weight).copy()
    values[:, 3:] = -values[:, :3]
    weight.CopyFrom(numpy_helper.from_array(values * np.float32(1000), weight.name))
    pair = np.full((1, 6, 32, 32), 0.9, np.float32)
    same, other = pair.copy(), pair.copy()
    other[:, 3:] += np.float32(2e-4)
    half = to_fp16(model)
    assert lint(half) == []
    types = {w.name: w.data_type for w in half.graph.initializer}
    assert types["w_stem"] == types["b_stem"] == TensorProto.FLOAT
    assert types["w_middle_fp16"] == TensorProto.FLOAT16
    expected = _run(model, other) - _run(model, same)
    assert np.abs(expected).max() > 0.01
    np.testing.assert_allclose(_run(half, other) - _run(half, same), expected, atol=2e-3)


def test_weights_of_a_convolution_may_share_a_scale(tiny_bundle: Bundle) -> None:
    model = small_denoiser()
    quantized = to_int8(model, RANGES, one_weight_scale=True)
    values = {w.name: numpy_helper.to_array(w) for w in quantized.graph.initializer}
    exact = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    assert lint(quantized) == []
    assert values["w_middle_scale"].shape == values["w_middle_zero"].shape == ()
    levels = values["w_middle_q"].astype(float)
    assert np.abs(levels).max() in (126, 127)
    assert np.abs(levels * values["w_middle_scale"] - exact["w_middle"]).max() < float(
        values["w_middle_scale"]
    )
    onnx.save(model, tiny_bundle.path / DENOISER)
    calibration = Calibration(method="min-max", ranges={DENOISER: RANGES})
    bundle = replace(tiny_bundle, calibration=calibration)
    for rest, shape in (("fp16", ()), ("fp32", (8,))):
        graph = typed_graph(bundle, DENOISER, "int8", rest=rest).graph  # type: ignore[arg-type]
        sizes = {w.name: tuple(w.dims) for w in graph.initializer}
        scales = [size for name, size in sizes.items() if name.startswith("w_middle_scale")]
        assert scales == [shape], "one for GPUs, one for each channel for CPUs"


def test_group_norm_statistics_survive_what_fp16_cannot_hold() -> None:
    loud = np.random.default_rng(0).normal(0, 9000, (2, 3, 32, 32)).astype(np.float32)
    assert np.isfinite(_run(to_fp16(small_denoiser()), loud)).all()


def test_a_weight_outside_fp16_is_refused() -> None:
    model = small_segmenter()
    weight = next(w for w in model.graph.initializer if w.name == "b_head")
    weight.CopyFrom(numpy_helper.from_array(np.array([1e6], np.float32), "b_head"))
    with pytest.raises(ModelError, match="b_head is outside the range of FP16"):
        to_fp16(model)


@pytest.mark.parametrize("rest", ["fp32", "fp16"])
def test_int8_graph_quantizes_the_inner_convolutions_only(noisy: np.ndarray, rest: str) -> None:
    model = small_denoiser()
    quantized = to_int8(model, RANGES)
    if rest == "fp16":
        quantized = to_fp16(quantized)
    assert lint(quantized) == []
    types = [w.data_type for w in quantized.graph.initializer if w.name.startswith("w_")]
    assert sum(t == TensorProto.INT8 for t in types) >= 2
    names = [n.input[0] for n in quantized.graph.node if n.op_type == "QuantizeLinear"]
    assert len(names) == 2
    assert len(convolutions(quantized)) == 2, "first and last keep float weights"
    expected = _run(model, noisy)
    relative = np.linalg.norm(_run(quantized, noisy) - expected) / np.linalg.norm(expected)
    # A step of 5.5/127 has a rounding error of 0.0125, 2 % of activations of about 0.6; the weights
    # add 1 % and the second convolution as much again. On a CPU, ONNX Runtime before 1.30 cuts FP16
    # values to the step below in place of the nearest one, which errs twice as much.
    assert 1e-4 < relative < (0.04 if rest == "fp32" else 0.08)


def test_making_the_rest_fp16_moves_no_scale() -> None:
    model = to_int8(small_denoiser(), RANGES)
    for weight in model.graph.initializer:
        if weight.name.endswith("_scale"):
            scale = numpy_helper.to_array(weight)
            np.testing.assert_array_equal(scale, scale.astype(np.float16).astype(np.float32))


def test_the_same_input_gives_the_same_bytes() -> None:
    def content() -> bytes:
        graph = to_fp16(to_int8(small_denoiser(), RANGES))
        return bytes(graph.SerializeToString(deterministic=True))

    assert content() == content()


def test_a_missing_range_names_the_command() -> None:
    with pytest.raises(ModelError, match="'both' has no activation range") as caught:
        to_int8(small_denoiser(), {"down": (-1.0, 1.0)})
    assert "dad-edge calibrate --data" in caught.value.next_step


def test_int8_without_calibration_names_the_command(tiny_bundle: Bundle) -> None:
    with pytest.raises(ModelError, match=r"no activation ranges for denoiser\.onnx") as caught:
        typed_graph(tiny_bundle, DENOISER, "int8", rest="fp32")
    assert "dad-edge calibrate --data" in caught.value.next_step


def test_a_graph_without_inner_convolutions_is_left_alone(tiny_bundle: Bundle) -> None:
    calibrated = Bundle(
        tiny_bundle.path,
        tiny_bundle.manifest,
        None,
        Calibration(method="min-max", ranges={DENOISER: {}}),
    )
    graph = typed_graph(calibrated, DENOISER, "int8", rest="fp32").graph
    assert [n.op_type for n in graph.node] == ["Conv", "Identity"]


def test_layers_that_are_named_stay_float() -> None:
    model = small_denoiser()
    assert [layer_name(node) for node in inner_convolutions(model)] == ["w_middle", "w_merge"]
    kept = to_int8(model, RANGES, ["w_merge"])
    assert lint(kept) == []
    quantized = [n.input[0] for n in kept.graph.node if n.op_type == "QuantizeLinear"]
    assert quantized == ["down"]
    with pytest.raises(ModelError, match="no INT8 layer 'w_stem'"):
        to_int8(model, RANGES, ["w_stem"])


def _weight_levels(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    """The quantized weights of every INT8 convolution, (O,I,H,W) as int64."""
    values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    return {
        name: v.astype(np.int64) for name, v in values.items() if v.ndim == 4 and v.dtype == "i1"
    }


def _paired_sums(activations: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """What a CPU without VNNI computes: products added in pairs, in 16 bits that saturate."""
    pairs = (activations * weights).reshape(len(weights), -1, 2).sum(axis=2)
    return np.asarray(pairs.clip(-(2**15), 2**15 - 1).sum(axis=1))


@pytest.fixture(scope="module")
def shipped() -> Bundle:
    return open_bundle(PACKAGED)


@pytest.mark.parametrize("name", [DENOISER, SEGMENTER])
def test_for_cpus_no_pair_of_weights_can_overflow_16_bits(shipped: Bundle, name: str) -> None:
    """Whichever two weights of a channel a kernel puts side by side, for any uint8 activations."""
    layers = _weight_levels(typed_graph(shipped, name, "int8", rest="fp32"))
    assert len(layers) > 20
    fullest = 0
    for levels in layers.values():
        sizes = np.sort(np.abs(levels.reshape(len(levels), -1)), axis=1)
        fullest = max(fullest, int(sizes[:, -2:].sum(axis=1).max()))
    assert 255 * fullest <= 32767
    assert fullest > 120, "the levels that there are should be used"


@pytest.mark.parametrize("name", [DENOISER, SEGMENTER])
def test_for_gpus_weights_use_all_levels(shipped: Bundle, name: str) -> None:
    for levels in _weight_levels(typed_graph(shipped, name, "int8", rest="fp16")).values():
        assert 125 <= np.abs(levels).max() <= 127


def test_sums_in_16_bits_are_the_sums_in_full(shipped: Bundle) -> None:
    """An exact reference of both, on the activations that are worst for each channel."""
    wrong = dict.fromkeys(("fp32", "fp16"), 0)
    for rest in wrong:
        for levels in _weight_levels(
            typed_graph(shipped, SEGMENTER, "int8", rest=rest)  # type: ignore[arg-type]
        ).values():
            channels_last = levels.transpose(0, 2, 3, 1).reshape(len(levels), -1)
            weights = channels_last[:, : channels_last.shape[1] // 2 * 2]
            for sign in (1, -1):
                worst = np.where(sign * weights > 0, 255, 0)
                differs = _paired_sums(worst, weights) != (worst * weights).sum(axis=1)
                wrong[rest] += int(differs.sum())
    assert wrong["fp32"] == 0
    assert wrong["fp16"] > 100, "with all levels the sums must differ for this to mean anything"


@pytest.mark.parametrize("pair_limit", [None, 128])
def test_rounding_keeps_the_sum_of_every_kernel(pair_limit: int | None) -> None:
    model = small_denoiser()
    quantized = to_int8(model, RANGES, pair_limit=pair_limit)
    values = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    scales = {w.name: numpy_helper.to_array(w) for w in quantized.graph.initializer}
    for name, levels in _weight_levels(quantized).items():
        weight = name.removesuffix("_q")
        exact = values[weight] / scales[f"{weight}_scale"][:, None, None, None].astype(float)
        assert np.abs(levels - exact).max() < 1
        # Half a step, and what float32 loses in the division.
        assert np.abs((levels - exact).sum(axis=(2, 3))).max() <= 0.5 + 1e-4
        assert np.abs((np.rint(exact) - exact).sum(axis=(2, 3))).max() > 0.6


def test_weights_at_the_limits_stay_within_them() -> None:
    """Channels with equal weights, one large weight, two that differ, halves, and none."""
    rows = np.zeros((5, 4), np.float32)
    rows[0], rows[1, 0], rows[2, :2], rows[3] = 1, -1, (0.9, -0.3), (63.5, -63.5, 63.5, 0.5)
    model = small_segmenter()
    weight = next(w for w in model.graph.initializer if w.name == "w_middle")
    values = np.zeros((8, 8, 3, 3), np.float32)
    values[:5, :4, 1, 1] = rows
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    quantized = to_int8(model, {"one": (0, 1), "two": (0, 1)}, pair_limit=128)
    levels = np.abs(_weight_levels(quantized)["w_middle_q"][:5, :4, 1, 1])
    assert (levels[0] >= 63).all()
    assert levels[1].tolist() == [127, 0, 0, 0]
    assert (np.sort(levels, axis=1)[:, -2:].sum(axis=1) <= 128).all()
    assert levels[2, 0] > 90
    assert not levels[4].any()
