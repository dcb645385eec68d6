"""What OpenVINO needs of a graph: the same function, written so that it is fast and right there."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dad_edge.graphs.group_norm import GroupNorm, Writer, find_group_norms, replace_group_norms

if TYPE_CHECKING:
    import onnx

UINT8_MIDDLE = 128


def for_openvino(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed graph as OpenVINO should get it.

    Args:
        model: a graph of the bundle in any precision.

    Returns:
        A new graph with the same inputs and outputs.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    _quantize_concatenations_unsigned(result.graph)
    norms = (norm for norm in find_group_norms(result.graph) if _is_of_images(norm))
    replace_group_norms(result.graph, norms, _write_out)
    onnx.checker.check_model(result)
    return result


def _quantize_concatenations_unsigned(graph: onnx.GraphProto) -> None:
    """Write the Q/DQ nodes that follow a `Concat` in UINT8, with 128 for 0: the same levels.

    OpenVINO 2025.1 to 2026.4 moves the quantization of a concatenation to before it. With INT8
    values it then rounds to whole numbers instead of to quantization levels, without a warning.
    """
    from onnx import numpy_helper

    makers = {name: node for node in graph.node for name in node.output}
    shifted: dict[str, str] = {}
    for node in graph.node:
        maker = makers.get(node.input[0]) if node.input else None
        if node.op_type == "QuantizeLinear" and maker and maker.op_type == "Concat":
            shifted[node.output[0]] = node.input[2] = f"{node.output[0]}_middle"
        elif node.op_type == "DequantizeLinear" and node.input[0] in shifted:
            node.input[2] = shifted[node.input[0]]
    graph.initializer.extend(
        numpy_helper.from_array(np.array(UINT8_MIDDLE, np.uint8), name) for name in shifted.values()
    )


def _is_of_images(norm: GroupNorm) -> bool:
    return norm.gamma.ndim == 3 and not norm.is_half


def _write_out(norm: GroupNorm, write: Writer) -> None:
    """Write group normalization in operators that leave the channels where they are.

    Behind a reshape OpenVINO wants the channels first, its convolutions want them last, and the
    copies in between take a third of the time. Means over the image and a small matrix that
    averages the channels of each group need no copies. The variance is that of the differences
    from the mean, so that nothing cancels.
    """
    members = len(norm.gamma) // norm.groups
    averaging = np.kron(np.eye(norm.groups), np.full((members, members), 1 / members))
    axes = write.constant("axes", np.array([2, 3], np.int64))
    averages = write.constant("averaging", averaging.astype(np.float32)[:, :, None, None])
    epsilon = write.constant("epsilon", np.array(norm.epsilon, np.float32))
    gamma, beta = write.constant("gamma", norm.gamma[None]), write.constant("beta", norm.beta[None])

    def average(name: str, key: str) -> str:
        channels = write.node("ReduceMean", [name, axes], f"channel_{key}", keepdims=1)
        return write.node("Conv", [channels, averages], key)

    differences = write.node("Sub", [norm.source, average(norm.source, "means")], "differences")
    squares = write.node("Mul", [differences, differences], "squares")
    above_zero = write.node("Add", [average(squares, "variances"), epsilon], "above_zero")
    scales = write.node("Div", [gamma, write.node("Sqrt", [above_zero], "deviations")], "scales")
    write.last("Add", [write.node("Mul", [differences, scales], "scaled"), beta], norm.target)
