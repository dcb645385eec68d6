"""A graph as OpenVINO needs it: the same function, written so that OpenVINO is fast and right."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx

UINT8_MIDDLE = 128


def for_openvino(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed graph in the form that suits OpenVINO.

    Args:
        model: a graph of the bundle in any precision.

    Returns:
        A new graph with the same inputs and outputs.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    _quantize_concatenations_unsigned(result.graph)
    _write_out_group_norms(result.graph)
    _drop_unused(result.graph)
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


class _GroupNorm(NamedTuple):
    """Reshape → InstanceNormalization → Reshape → Mul → Add, as the exporter writes GroupNorm."""

    source: str
    target: str
    groups: int
    epsilon: float
    gamma: NDArray[np.float32]
    """(C,1,1)."""
    beta: NDArray[np.float32]
    """(C,1,1)."""


def _write_out_group_norms(graph: onnx.GraphProto) -> None:
    """Write group normalization in operators that leave the channels where they are.

    Behind a reshape OpenVINO wants the channels first, its convolutions want them last, and the
    copies in between take a third of the time. Means over the image and a small matrix that
    averages the channels of each group need no copies. The variance is that of the differences
    from the mean, so that nothing cancels.
    """
    norms = {norm.target: norm for norm in _group_norms(graph)}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        norm = norms.get(node.output[0])
        nodes.extend(_nodes_of(norm, graph) if norm else [node])
    del graph.node[:]
    graph.node.extend(nodes)


def _group_norms(graph: onnx.GraphProto) -> Iterator[_GroupNorm]:
    from onnx import numpy_helper

    constants = {weight.name: weight for weight in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def only_reader(name: str, op_type: str) -> onnx.NodeProto | None:
        nodes = readers.get(name, [])
        return nodes[0] if len(nodes) == 1 and nodes[0].op_type == op_type else None

    def constant_beside(node: onnx.NodeProto | None, name: str) -> NDArray[Any] | None:
        """The other input of a Mul or Add, if it is one number for each channel of an image."""
        others = [other for other in node.input if other != name] if node else []
        if len(others) != 1 or others[0] not in constants:
            return None
        values = numpy_helper.to_array(constants[others[0]])
        return values if values.ndim == 3 and values.shape[1:] == (1, 1) else None

    for node in graph.node:
        before = makers.get(node.input[0]) if node.op_type == "InstanceNormalization" else None
        if before is None or before.op_type != "Reshape":
            continue
        after = only_reader(node.output[0], "Reshape")
        scale = only_reader(after.output[0], "Mul") if after else None
        shift = only_reader(scale.output[0], "Add") if scale else None
        if after is None or scale is None or shift is None:
            continue
        gamma = constant_beside(scale, after.output[0])
        beta = constant_beside(shift, scale.output[0])
        weight, bias = (constants.get(name) for name in node.input[1:])
        if gamma is None or beta is None or weight is None or bias is None:
            continue
        if np.any(numpy_helper.to_array(weight) != 1) or np.any(numpy_helper.to_array(bias)):
            continue
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        yield _GroupNorm(before.input[0], shift.output[0], weight.dims[0], epsilon, gamma, beta)


def _nodes_of(norm: _GroupNorm, graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """The nodes that compute a group normalization; their constants go into the graph."""
    from onnx import helper, numpy_helper

    channels = len(norm.gamma)
    members = channels // norm.groups
    averaging = np.kron(np.eye(norm.groups), np.full((members, members), 1 / members))
    constants: dict[str, NDArray[Any]] = {
        "axes": np.array([2, 3], np.int64),
        "averaging": averaging.astype(np.float32)[:, :, None, None],
        "epsilon": np.array(norm.epsilon, np.float32),
        "gamma": norm.gamma[None],
        "beta": norm.beta[None],
    }
    name = {key: f"{norm.target}_{key}" for key in constants}
    graph.initializer.extend(
        numpy_helper.from_array(values, name[key]) for key, values in constants.items()
    )

    def node(op_type: str, inputs: list[str], key: str, **attributes: Any) -> onnx.NodeProto:
        name[key] = f"{norm.target}_{key}"
        return helper.make_node(op_type, inputs, [name[key]], name[key], **attributes)

    nodes = [
        node("ReduceMean", [norm.source, name["axes"]], "channel_means", keepdims=1),
        node("Conv", [name["channel_means"], name["averaging"]], "means"),
        node("Sub", [norm.source, name["means"]], "differences"),
        node("Mul", [name["differences"], name["differences"]], "squares"),
        node("ReduceMean", [name["squares"], name["axes"]], "channel_variances", keepdims=1),
        node("Conv", [name["channel_variances"], name["averaging"]], "variances"),
        node("Add", [name["variances"], name["epsilon"]], "above_zero"),
        node("Sqrt", [name["above_zero"]], "deviations"),
        node("Div", [name["gamma"], name["deviations"]], "scales"),
        node("Mul", [name["differences"], name["scales"]], "scaled"),
    ]
    last = helper.make_node("Add", [name["scaled"], name["beta"]], [norm.target], norm.target)
    return [*nodes, last]


def _drop_unused(graph: onnx.GraphProto) -> None:
    """Remove nodes and weights that nothing reads, and the types of tensors that are gone."""
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    for field, values in (("node", kept[::-1]), ("initializer", weights), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)
