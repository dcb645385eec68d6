"""Graphs for TensorRT compute what the graphs that they come from compute."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from small_networks import small_denoiser, small_segmenter

from dad_edge.bundle import DENOISER, PACKAGED, open_bundle
from dad_edge.graphs import tensorrt
from dad_edge.graphs.fp16_range import extreme_frames
from dad_edge.graphs.lint import lint
from dad_edge.graphs.quantize import load_graph, to_fp16, to_int8
from dad_edge.graphs.tensorrt import for_tensorrt
from dad_edge.image.framing import plan_views, views
from dad_edge.runtime.cpu.engine_onnx import LeanEngine
from dad_edge.runtime.cpu.ops import NumpyOps
from tests.graphs.test_openvino import RANGES, drawn, ops_of, run


def test_group_norm_is_split_and_computes_the_same(tmp_path: Path) -> None:
    model, half = small_denoiser(), to_fp16(small_denoiser())
    split = for_tensorrt(half)
    assert ops_of(half)["InstanceNormalization"] == 1
    assert ops_of(split)["InstanceNormalization"] == 0
    for values in (drawn(3), 100 + drawn(3), np.zeros((2, 3, 32, 32), np.float32)):
        expected = run(model, tmp_path, values)
        before, found = run(half, tmp_path, values), run(split, tmp_path, values)
        allowed = 1.1 * np.abs(before - expected).max() + 1e-3
        np.testing.assert_allclose(found, expected, rtol=0, atol=allowed)
    assert ops_of(to_fp16(small_denoiser())) == ops_of(half), "the given graph stays as it was"


@pytest.mark.parametrize("quantized", [False, True], ids=["fp16", "int8"])
def test_statistics_are_float_and_images_are_half(quantized: bool) -> None:
    model = to_int8(small_denoiser(), RANGES) if quantized else small_denoiser()
    split = for_tensorrt(to_fp16(model))
    kinds = {
        value.name: value.type.tensor_type.elem_type
        for value in onnx.shape_inference.infer_shapes(split, strict_mode=True).graph.value_info
    }
    [relu] = [
        node for node in split.graph.node if node.op_type == "Relu" and "variance" in node.name
    ]
    assert kinds[relu.output[0]] == TensorProto.FLOAT
    centred = next(n for n in split.graph.node if n.name.endswith("_centred"))
    assert {kinds[name] for name in (*centred.input, *centred.output)} == {TensorProto.FLOAT16}
    assert lint(split) == []


def test_float_graphs_and_those_without_group_norm_are_unchanged() -> None:
    """In float the difference of the means would lose what InstanceNormalization keeps."""
    quantized = to_int8(small_segmenter(), RANGES)
    for model in (small_denoiser(), small_segmenter(), quantized, to_fp16(small_segmenter())):
        assert ops_of(for_tensorrt(model)) == ops_of(model)


@pytest.fixture(scope="module")
def demo() -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """The denoiser of the demo bundle, and its inputs on frames at the ends of what there is."""
    bundle = open_bundle(PACKAGED)
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    given = {}
    for name, frame in extreme_frames(bundle.model.image_size).items():
        _, given[name] = ops.inject(views(frame, plan_views(frame.shape, bundle.model)), 0)
    given["no noise at all"] = np.ones_like(given["white"])
    return load_graph(PACKAGED / DENOISER), given


def test_every_group_norm_of_a_trained_network_is_found(
    demo: tuple[onnx.ModelProto, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, _ = demo
    count = ops_of(model)["InstanceNormalization"]
    monkeypatch.setattr(tensorrt, "LARGE_PIXELS", 64 * 64)  # the largest maps of this network
    split = for_tensorrt(to_fp16(model))
    ops = ops_of(split)
    assert ops["InstanceNormalization"] == 0
    assert count == sum(node.name.endswith("_centred") for node in split.graph.node)
    in_rows = sum(node.name.endswith("_mean_of_rows") for node in split.graph.node)
    assert 0 < in_rows < count, "only large images"


def test_half_precision_loses_less_than_before_on_extreme_frames(
    demo: tuple[onnx.ModelProto, dict[str, np.ndarray]],
) -> None:
    """Neither a constant image, whose variance is a difference of equals, nor one hot pixel."""
    model, given = demo
    half = to_fp16(model)
    exact, before, after = (LeanEngine(m) for m in (model, half, for_tensorrt(half)))
    for name, x_t in given.items():
        (expected,) = exact.run({"x_t": x_t}).values()
        errors = [
            np.linalg.norm(next(iter(engine.run({"x_t": x_t}).values())) - expected)
            / np.linalg.norm(expected)
            for engine in (before, after)
        ]
        assert errors[1] < 1.1 * errors[0], name
        assert errors[1] < 3e-3, name


def test_what_is_constant_in_a_channel_vanishes_exactly(tmp_path: Path) -> None:
    """Half precision cannot hold the difference of two large products, nor float that of squares:
    the mean of these squares comes out below the square of the mean."""
    model = small_denoiser()
    for weight in model.graph.initializer:
        if weight.name == "w_stem":  # every channel is a constant, far from the others
            weight.CopyFrom(numpy_helper.from_array(np.zeros(weight.dims, np.float32), "w_stem"))
        if weight.name == "b_stem":
            far = np.full(8, 1000.5, np.float32)
            weight.CopyFrom(numpy_helper.from_array(far, "b_stem"))
    expected = run(model, tmp_path, drawn(3))
    found = run(for_tensorrt(to_fp16(model)), tmp_path, drawn(3))
    np.testing.assert_allclose(found, expected, rtol=0, atol=5e-3)


def test_group_norm_statistics_survive_what_half_precision_cannot_hold(tmp_path: Path) -> None:
    loud = np.random.default_rng(0).normal(0, 9000, (2, 3, 32, 32)).astype(np.float32)
    assert np.isfinite(run(for_tensorrt(to_fp16(small_denoiser())), tmp_path, loud)).all()
