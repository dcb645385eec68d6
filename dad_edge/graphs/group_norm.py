"""Group normalization as the exporter writes it, found in a graph so that a runtime gets another.

PyTorch's exporter writes it as Reshape → InstanceNormalization → Reshape → Mul → Add, between casts
where the rest of the graph is half precision. No runtime computes that well, and none the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


class GroupNorm(NamedTuple):
    """One group normalization of a graph."""

    source: str
    target: str
    groups: int
    epsilon: float
    gamma: NDArray[np.float32]
    """(C,1,1) over images, (C,1) over positions."""
    beta: NDArray[np.float32]
    """Of the same shape."""
    is_half: bool
    """Whether its tensors are half precision, and its statistics float."""


class Writer:
    """Nodes of one group normalization, and their constants."""

    def __init__(self, prefix: str) -> None:
        """
        Args:
            prefix: of every name.
        """
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._prefix = prefix

    def constant(self, key: str, values: NDArray[Any]) -> str:
        """A constant; its name."""
        from onnx import numpy_helper

        name = f"{self._prefix}_{key}"
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op_type: str, inputs: Sequence[str], key: str, **attributes: Any) -> str:
        """A node with one output; the name of both."""
        name = f"{self._prefix}_{key}"
        self.last(op_type, inputs, name, **attributes)
        return name

    def last(self, op_type: str, inputs: Sequence[str], target: str, **attributes: Any) -> None:
        """The node that makes the target."""
        from onnx import helper

        self.nodes.append(helper.make_node(op_type, inputs, [target], target, **attributes))


def replace_group_norms(
    graph: onnx.GraphProto, norms: Iterator[GroupNorm], write: Callable[[GroupNorm, Writer], None]
) -> None:
    """Write group normalizations of a graph anew, and drop what only the old ones read.

    Args:
        graph: changed in place; the types of its inner tensors are forgotten.
        norms: those to replace.
        write: adds the nodes, the last of which makes the target.
    """
    found = {norm.target: norm for norm in norms}
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        norm = found.get(node.output[0])
        if norm is None:
            nodes.append(node)
            continue
        writer = Writer(norm.target)
        write(norm, writer)
        nodes.extend(writer.nodes)
        graph.initializer.extend(writer.constants)
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = [weight for weight in graph.initializer if weight.name in needed]
    for field, values in (("node", kept[::-1]), ("initializer", weights), ("value_info", [])):
        graph.ClearField(field)
        getattr(graph, field).extend(values)


def find_group_norms(graph: onnx.GraphProto) -> Iterator[GroupNorm]:
    """The group normalizations of a graph, in its order."""
    from onnx import numpy_helper

    constants = {weight.name: weight for weight in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def only_reader(node: onnx.NodeProto | None, op_type: str) -> onnx.NodeProto | None:
        found = readers.get(node.output[0], []) if node else []
        return found[0] if len(found) == 1 and found[0].op_type == op_type else None

    def beside(node: onnx.NodeProto | None, before: onnx.NodeProto | None) -> Any:
        """The other input of a Mul or Add, if it is one number for each channel."""
        others = [n for n in node.input if n != before.output[0]] if node and before else []
        if len(others) != 1 or others[0] not in constants:
            return None
        values = numpy_helper.to_array(constants[others[0]])
        is_channels = values.ndim in (2, 3) and all(side == 1 for side in values.shape[1:])
        return values.astype(np.float32) if is_channels else None

    for node in graph.node:
        if node.op_type != "InstanceNormalization":
            continue
        before, inner = makers.get(node.input[0]), node
        narrowed = only_reader(node, "Cast")
        is_half = narrowed is not None and before is not None and before.op_type == "Cast"
        if narrowed is not None and before is not None and is_half:
            before, inner = makers.get(before.input[0]), narrowed
        after = only_reader(inner, "Reshape")
        scale = only_reader(after, "Mul")
        shift = only_reader(scale, "Add")
        gamma, beta = beside(scale, after), beside(shift, scale)
        weight, bias = (constants.get(name) for name in node.input[1:])
        if before is None or before.op_type != "Reshape" or shift is None:
            continue
        if gamma is None or beta is None or weight is None or bias is None:
            continue
        if np.any(numpy_helper.to_array(weight) != 1) or np.any(numpy_helper.to_array(bias)):
            continue
        epsilon = next((a.f for a in node.attribute if a.name == "epsilon"), 1e-5)
        sides = before.input[0], shift.output[0]
        yield GroupNorm(*sides, weight.dims[0], epsilon, gamma, beta, is_half)
