"""The linter on graphs that are right, and on the same graphs broken in one place each."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from small_networks import small_denoiser, small_segmenter

from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, open_bundle
from dad_edge.graphs.lint import lint
from dad_edge.graphs.quantize import load_graph, to_fp16, to_int8

DENOISER_RANGES = {"down": (-0.3, 2.4), "both": (-2.0, 5.5)}


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if name in (node.name, node.output[0]))


def _set(model: onnx.ModelProto, name: str, values: np.ndarray) -> None:
    weight = next(w for w in model.graph.initializer if w.name == name)
    weight.CopyFrom(numpy_helper.from_array(values, name))


def test_the_linter_names_what_tensorrt_rejects() -> None:
    model = to_int8(small_denoiser(), DENOISER_RANGES)
    _set(model, "down_zero", np.array(3, np.int8))
    _set(model, "both_scale", np.full(16, 0.1, np.float32))
    _set(model, "w_merge_scale", np.zeros(8, np.float32))
    problems = "; ".join(lint(model))
    assert "down_q: zero point is not 0" in problems
    assert "both_q: activation 'both' has a scale for each channel" in problems
    assert "w_merge_dq: scale is not a positive number" in problems


def test_the_linter_sees_double_quantization_and_wrong_axes() -> None:
    model = to_int8(small_denoiser(), DENOISER_RANGES)
    _node(model, "both_q").input[0] = "down_dq"
    weight = _node(model, "w_middle_dq")
    weight.attribute[0].i = 1
    del weight.input[2]
    problems = "; ".join(lint(model))
    assert "'down_dq' is quantized twice" in problems
    assert "along axis 1, not 0" in problems
    assert "w_middle_dq: no constant INT8 zero point" in problems


def test_a_half_quantized_convolution_is_a_float_island() -> None:
    model = to_int8(small_denoiser(), DENOISER_RANGES)
    _node(model, "middle").input[0] = "down"
    problems = lint(model)
    assert "middle: Conv runs in float because its input is not quantized" in problems
    assert any("down_dq: DequantizeLinear that reaches no output" in p for p in problems)


def test_float_work_on_quantized_data_is_a_float_island() -> None:
    model = to_int8(small_denoiser(), DENOISER_RANGES)
    _node(model, "both").input[1] = "down_dq"
    assert lint(model) == ["both: Concat runs in float on what was quantized for it"]


def _three_layers() -> onnx.ModelProto:
    """The small segmenter with a second inner convolution after the first."""
    model = small_segmenter()
    weights = numpy_helper.from_array(
        np.random.default_rng(1).normal(0, 0.1, (8, 8, 3, 3)).astype(np.float32), "w_third"
    )
    model.graph.initializer.append(weights)
    third = [
        helper.make_node("Conv", ["two", "w_third"], ["third"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["third"], ["three"]),
    ]
    nodes = list(model.graph.node)
    nodes[4].input[0] = "three"
    model.graph.ClearField("node")
    model.graph.node.extend([*nodes[:4], *third, *nodes[4:]])
    return to_int8(model, {"one": (0.0, 2.0), "two": (0.0, 2.0)})


def test_a_cast_between_two_quantized_convolutions_is_a_float_island() -> None:
    model = _three_layers()
    assert lint(model) == []
    nodes = list(model.graph.node)
    quantize = _node(model, "two_q")
    at = nodes.index(quantize)
    quantize.input[0] = "two_fp32"
    cast = helper.make_node("Cast", ["two"], ["two_fp32"], "widen", to=TensorProto.FLOAT)
    model.graph.ClearField("node")
    model.graph.node.extend([*nodes[:at], cast, *nodes[at:]])
    assert lint(model) == ["widen: Cast keeps a quantized convolution from its next quantization"]


def test_dead_nodes_and_constants_are_named() -> None:
    model = small_segmenter()
    model.graph.node.append(helper.make_node("Relu", ["one"], ["nowhere"]))
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(1, np.float32), "unread"))
    assert lint(model) == [
        "nowhere: Relu that reaches no output",
        "unread: a constant that nothing reads",
    ]


@pytest.mark.parametrize("name", [DENOISER, SEGMENTER])
def test_the_graphs_of_the_demo_bundle_are_clean_in_every_precision(name: str) -> None:
    bundle = open_bundle(PACKAGED)
    assert bundle.calibration is not None
    ranges = bundle.calibration.ranges[name]
    graph = load_graph(bundle.path / name)
    assert lint(graph) == []
    for typed in (to_fp16(graph), to_int8(graph, ranges), to_fp16(to_int8(graph, ranges))):
        assert lint(typed) == []
