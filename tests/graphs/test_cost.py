from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, Bundle
from dad_edge.graphs.cost import LayerGroup, count_gflop, layer_costs


def _save(
    path: Path, nodes: list[onnx.NodeProto], weights: dict[str, tuple[int, ...]], shape: list
) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.zeros(s, np.float32), name) for name, s in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]), path)
    return path


@pytest.mark.parametrize(
    ("node", "weight", "shape", "multiply_adds"),
    [
        (helper.make_node("MatMul", ["x", "w"], ["y"]), (7, 5), ["N", 4, 7], 3 * 4 * 5 * 7),
        (helper.make_node("Gemm", ["x", "w"], ["y"], transB=1), (5, 7), ["N", 7], 3 * 5 * 7),
        (
            helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 2], pads=[1, 1, 1, 1], group=2),
            (6, 2, 3, 3),
            ["N", 4, 8, 8],
            3 * 6 * 4 * 4 * 2 * 9,
        ),
        (
            helper.make_node("ConvTranspose", ["x", "w"], ["y"], strides=[2, 2]),
            (4, 6, 2, 2),
            ["N", 4, 8, 8],
            3 * 8 * 8 * 4 * 6 * 4,
        ),
        (helper.make_node("Add", ["x", "w"], ["y"]), (4,), ["N", 4], 0),
    ],
    ids=lambda value: value.op_type if isinstance(value, onnx.NodeProto) else None,
)
def test_counts_by_hand(
    tmp_path: Path, node: onnx.NodeProto, weight: tuple[int, ...], shape: list, multiply_adds: int
) -> None:
    path = _save(tmp_path / "g.onnx", [node], {"w": weight}, shape)
    assert count_gflop(path, rows=3) == pytest.approx(2 * multiply_adds / 1e9)


def test_a_bundle_costs_more_with_more_rows(tiny_bundle: Bundle) -> None:
    one = count_gflop(tiny_bundle.path / DENOISER, 1)
    assert one == pytest.approx(2 * 3 * 3 * 32 * 32 / 1e9)
    assert count_gflop(tiny_bundle.path / DENOISER, 4) == pytest.approx(4 * one)


def test_an_unknown_shape_is_said_not_guessed(tmp_path: Path) -> None:
    hidden = [
        helper.make_node("NonZero", ["x"], ["indices"]),
        helper.make_node("Cast", ["indices"], ["found"], to=TensorProto.FLOAT),
        helper.make_node("MatMul", ["w", "found"], ["y"]),
    ]
    path = _save(tmp_path / "g.onnx", hidden, {"w": (5, 2)}, ["N", 4])
    with pytest.raises(ValueError, match="MatMul"):
        count_gflop(path, rows=1)


def test_traffic_is_weights_once_and_what_goes_in_and_out(tmp_path: Path) -> None:
    node = helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])
    path = _save(tmp_path / "g.onnx", [node], {"w": (6, 4, 3, 3)}, ["N", 4, 8, 8])
    (layer,) = layer_costs(path, rows=3)
    assert layer.weights == 6 * 4 * 9
    assert layer.activations == 3 * 8 * 8 * (4 + 6)
    assert layer.shape == (3, 6, 8, 8)


def test_layers_are_grouped_by_the_part_of_the_network_they_belong_to() -> None:
    layers = layer_costs(PACKAGED / DENOISER, 2) + layer_costs(PACKAGED / SEGMENTER, 2)
    gflop = dict.fromkeys(get_args(LayerGroup), 0.0)
    for layer in layers:
        gflop[layer.group] += layer.flop / 1e9
    assert gflop["segmenter"] == pytest.approx(count_gflop(PACKAGED / SEGMENTER, 2))
    assert all(gflop[group] > 0 for group in ("stem and head", "down", "middle", "up", "attention"))
    assert gflop["up"] > gflop["middle"]
    assert gflop["other"] == 0
