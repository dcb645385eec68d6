from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import make_network_bundle, small_segmenter

from dad_edge.bundle import Bundle
from dad_edge.gate.layer_errors import layer_errors
from dad_edge.graphs.tensorrt import for_tensorrt

FRAME = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)


def _bundle(folder: Path, segmenter: onnx.ModelProto) -> Bundle:
    return make_network_bundle(folder, segmenter)


def test_every_layer_of_both_networks_has_its_error(tmp_path: Path) -> None:
    found = layer_errors(_bundle(tmp_path / "bundle", small_segmenter()), FRAME)
    assert sorted(e.layer for e in found if e.network == "denoiser.onnx") == [
        "w_head",
        "w_merge",
        "w_middle",
        "w_stem",
    ]
    assert sorted(e.layer for e in found if e.network == "segmenter.onnx") == [
        "w_head",
        "w_middle",
        "w_stem",
    ]
    assert all(e.error is not None and 0 < e.error < 5e-3 for e in found)
    assert [e.own for e in found] == sorted((e.own for e in found), reverse=True)


def test_the_layer_that_leaves_the_range_of_fp16_comes_first(tmp_path: Path) -> None:
    segmenter = small_segmenter()
    for weight in segmenter.graph.initializer:
        if weight.name == "w_middle":
            values = numpy_helper.to_array(weight) * np.float32(60000)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    found = layer_errors(_bundle(tmp_path / "bundle", segmenter), FRAME)
    assert (found[0].network, found[0].layer, found[0].error) == (
        "segmenter.onnx",
        "w_middle",
        None,
    )
    assert all(e.error is not None for e in found if e.network == "denoiser.onnx")


def test_the_graphs_are_those_that_tensorrt_gets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[onnx.ModelProto] = []

    def written(model: onnx.ModelProto) -> onnx.ModelProto:
        given.append(for_tensorrt(model))
        return given[-1]

    monkeypatch.setattr("dad_edge.graphs.engine.for_tensorrt", written)
    layer_errors(_bundle(tmp_path / "bundle", small_segmenter()), FRAME)
    operators = {node.op_type for model in given for node in model.graph.node}
    assert len(given) == 2
    assert "InstanceNormalization" not in operators
