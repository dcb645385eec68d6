"""Graphs for OpenVINO compute what the graphs that they come from compute."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper
from small_networks import small_denoiser, small_segmenter

from dad_edge.graphs.openvino import for_openvino
from dad_edge.graphs.quantize import to_fp16, to_int8
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine

RANGES = dict.fromkeys(("active", "down", "both", "merged", "one", "two"), (-4.0, 4.0))


def ops_of(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def run(model: onnx.ModelProto, folder: Path, values: np.ndarray) -> np.ndarray:
    path = folder / "graph.onnx"
    onnx.save(model, path)
    engine = OnnxEngine(path, threads=1)
    (result,) = engine.run({model.graph.input[0].name: values}).values()
    return result


def drawn(channels: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal((2, channels, 32, 32)).astype(np.float32)


def test_group_norm_is_written_out_and_computes_the_same(tmp_path: Path) -> None:
    model = small_denoiser()
    written = for_openvino(model)
    assert ops_of(model)["InstanceNormalization"] == 1
    ops = ops_of(written)
    assert (ops["InstanceNormalization"], ops["Reshape"], ops["ReduceMean"]) == (0, 0, 2)
    for values in (drawn(3), 100 + drawn(3), np.zeros((2, 3, 32, 32), np.float32)):
        expected, found = run(model, tmp_path, values), run(written, tmp_path, values)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)
    assert ops_of(small_denoiser()) == ops_of(model), "the given graph stays as it was"


def test_a_group_norm_with_weights_of_its_own_stays(tmp_path: Path) -> None:
    model = small_denoiser()
    for weight in model.graph.initializer:
        if weight.name == "ones":
            weight.CopyFrom(numpy_helper.from_array(np.full(4, 2, np.float32), "ones"))
    written = for_openvino(model)
    assert ops_of(written) == ops_of(model)
    np.testing.assert_array_equal(run(written, tmp_path, drawn(3)), run(model, tmp_path, drawn(3)))


def test_behind_a_concatenation_the_levels_are_unsigned_and_the_same(tmp_path: Path) -> None:
    model = to_int8(small_denoiser(), RANGES)
    written = for_openvino(model)
    zeros = {
        node.output[0]: next(
            numpy_helper.to_array(weight)
            for weight in written.graph.initializer
            if weight.name == node.input[2]
        )
        for node in written.graph.node
        if node.op_type in ("QuantizeLinear", "DequantizeLinear")
    }
    for name in ("both_q", "both_dq"):
        assert (zeros[name].dtype, int(zeros[name])) == (np.uint8, 128)
    for name in ("down_q", "down_dq", "w_merge_dq", "w_middle_dq"):
        assert zeros[name].dtype == np.int8
        assert not zeros[name].any()
    expected, found = run(model, tmp_path, drawn(3)), run(written, tmp_path, drawn(3))
    assert np.abs(expected - run(small_denoiser(), tmp_path, drawn(3))).mean() > 1e-3
    # GroupNorm is written out too, so that a value here and there falls on the next level.
    assert np.abs(found - expected).mean() < 1e-3


def test_graphs_without_either_are_unchanged(tmp_path: Path) -> None:
    for model in (small_segmenter(), to_int8(small_segmenter(), RANGES)):
        assert ops_of(for_openvino(model)) == ops_of(model)
    half = to_fp16(small_denoiser())
    assert ops_of(for_openvino(half)) == ops_of(half)
