"""Arithmetic and memory traffic of an ONNX graph, layer by layer, counted from its shapes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

_SHAPE_CONSTANT = 4096  # bytes; larger initializers are weights, whose values no shape depends on
LayerGroup = Literal["stem and head", "down", "middle", "up", "attention", "segmenter", "other"]
"""Part of the networks that a layer is counted in."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCost:
    """One node of a graph."""

    name: str
    op: str
    group: LayerGroup
    outputs: tuple[str, ...]
    """Names of the tensors that it makes."""
    shape: tuple[int, ...]
    """Shape of the first of them; empty where it is not known."""
    flop: int = 0
    """Operations: two for each multiply-add of Conv, ConvTranspose, MatMul and Gemm, else 0."""
    weights: int = 0
    """Elements of weights that such a layer reads."""
    activations: int = 0
    """Elements that it reads and writes besides."""


def layer_costs(path: Path, rows: int) -> list[LayerCost]:
    """What every node of a graph costs in one run, in the graph's order.

    Normalisation, activations, resizing and pooling count as free, as is usual: a runtime can fuse
    them into the layers that count.

    Args:
        path: the ONNX file.
        rows: size of the first dimension of its input, where the graph leaves it open.

    Raises:
        ValueError: the shape of an operand cannot be inferred.
    """
    import onnx

    model = onnx.load(path, load_external_data=False)
    graph = model.graph
    weights = {tensor.name for tensor in graph.initializer}
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
    costs: list[LayerCost] = []
    group: LayerGroup = "other"
    for node in graph.node:
        # A node without a weight of its own belongs to the layer before it.
        group = _group_of(node, weights) or group
        costs.append(_cost_of(node, group, shapes, weights))
    return costs


def count_gflop(path: Path, rows: int) -> float:
    """Billions of floating-point operations of one run; arguments as in `layer_costs`."""
    return sum(layer.flop for layer in layer_costs(path, rows)) / 1e9


def _group_of(node: Any, weights: set[str]) -> LayerGroup | None:
    """The group that the name of a node's weight says, or None."""
    for name in node.input:
        if name not in weights or "." not in name:
            continue
        parts: list[str] = name.split(".")
        if parts[0] == "segmenter":
            return "segmenter"
        if "attention" in parts:
            return "attention"
        match parts[1]:
            case "down" | "middle" | "up" as side:
                return side
        return "stem and head"
    return None


def _cost_of(
    node: Any, group: LayerGroup, shapes: dict[str, list[int]], weights: set[str]
) -> LayerCost:
    result = shapes.get(node.output[0], [])
    free = LayerCost(
        name=node.name or node.output[0],
        op=node.op_type,
        group=group,
        outputs=tuple(node.output),
        shape=() if 0 in result else tuple(result),
    )
    if node.op_type not in ("Conv", "ConvTranspose", "MatMul", "Gemm"):
        return free
    operands = [shapes.get(name, []) for name in (*node.input[:2], node.output[0])]
    if any(not shape or 0 in shape for shape in operands):
        raise ValueError(f"shape of {node.op_type} '{node.name}' is not known")
    sizes = [math.prod(shape) for shape in operands]
    constant = sum(
        size for name, size in zip(node.input[:2], sizes, strict=False) if name in weights
    )
    return LayerCost(
        name=free.name,
        op=free.op,
        group=group,
        outputs=free.outputs,
        shape=free.shape,
        flop=2 * _multiply_adds(node, operands),
        weights=constant,
        activations=sum(sizes) - constant,
    )


def _multiply_adds(node: Any, operands: list[list[int]]) -> int:
    left, weight, result = operands
    if node.op_type == "Conv":  # weight: (out, in / groups, *kernel)
        return math.prod(result) * math.prod(weight[1:])
    if node.op_type == "ConvTranspose":  # weight: (in, out / groups, *kernel)
        return math.prod(left) * math.prod(weight[1:])
    if node.op_type == "Gemm":
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return math.prod(result) * (left[0] if transposed else left[1])
    return math.prod(result) * left[-1]
