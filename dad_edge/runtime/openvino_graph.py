"""What OpenVINO needs of a graph: changes that keep what the graph computes, or make it safe."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def float_behind_concat(model: onnx.ModelProto) -> onnx.ModelProto:
    """The graph with what comes out of a concatenation left in float.

    OpenVINO 2025.1 to 2026.4 moves the quantization of a concatenation to before it and rounds
    there to whole numbers instead of to quantization levels, without a warning. The weights of the
    convolutions behind it keep their INT8 values and are dequantized once, as the graph is loaded.

    Args:
        model: a graph with Q/DQ nodes at the inputs of its convolutions.

    Returns:
        A new graph without the Q/DQ nodes that follow a `Concat`.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    makers = {name: node for node in graph.node for name in node.output}
    source_of: dict[str, str] = {}
    removed: set[str] = set()
    for node in graph.node:
        quantizer = makers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if quantizer is None or quantizer.op_type != "QuantizeLinear":
            continue
        source = quantizer.input[0]
        if source in makers and makers[source].op_type == "Concat":
            source_of[node.output[0]] = source
            removed |= {node.output[0], quantizer.output[0]}
    for node in [node for node in graph.node if node.output[0] in removed]:
        graph.node.remove(node)
    for node in graph.node:
        for index, name in enumerate(node.input):
            node.input[index] = source_of.get(name, name)
    used = {name for node in graph.node for name in node.input}
    for weight in [weight for weight in graph.initializer if weight.name not in used]:
        graph.initializer.remove(weight)
    onnx.checker.check_model(result)
    return result
