"""Arithmetic of an ONNX graph, counted from its shapes."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

_SHAPE_CONSTANT = 4096  # bytes; larger initializers are weights, whose values no shape depends on


def count_gflop(path: Path, rows: int) -> float:
    """Floating-point operations of one run: two for each multiply-add of Conv, MatMul and Gemm.

    Normalisation, activations, resizing and pooling are not counted, as is usual.

    Args:
        path: the ONNX file.
        rows: size of the first dimension of its input, where the graph leaves it open.

    Returns:
        Billions of operations.

    Raises:
        ValueError: the shape of an operand cannot be inferred.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    for tensor in graph.initializer:
        if len(tensor.raw_data) > _SHAPE_CONSTANT:
            tensor.ClearField("raw_data")
    for value in graph.input:
        first = value.type.tensor_type.shape.dim[0]
        if not first.HasField("dim_value"):
            first.dim_value = rows
    graph.ClearField("value_info")
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph

    shapes: dict[str, list[int]] = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [
            d.dim_value if d.HasField("dim_value") else 0 for d in value.type.tensor_type.shape.dim
        ]
    return 2 * sum(_multiply_adds(node, shapes) for node in graph.node) / 1e9


def _multiply_adds(node: Any, shapes: dict[str, list[int]]) -> int:
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return 0
    operands = [shapes.get(name, []) for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in operands):
        raise ValueError(f"shape of {node.op_type} '{node.name}' is not known")
    left, weight, result = operands
    if node.op_type == "Conv":  # weight: (out, in / groups, *kernel)
        return math.prod(result) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight: (in, out / groups, *kernel)
        return math.prod(left) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(result) * (left[0] if transposed else left[1])
    return math.prod(result) * left[-1]
