"""Whether an ONNX file is whole in itself, so that its digest covers all it computes with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dad_edge.errors import ModelError

if TYPE_CHECKING:
    import onnx


def tensor_elsewhere(path: Path) -> str | None:
    """Name of a tensor whose numbers are in another file; None if the graph holds all of them.

    Args:
        path: an ONNX file.

    Raises:
        ModelError: it is no ONNX graph.
    """
    import onnx
    from onnx.external_data_helper import uses_external_data

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's exception type depends on its implementation
        raise ModelError(f"{path} is not an ONNX graph: {error}.", "export it again") from error
    elsewhere = (tensor.name for tensor in _tensors_of(model.graph) if uses_external_data(tensor))
    return next(elsewhere, None)


def _tensors_of(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """All tensors that are written in a graph, those of its inner graphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (*attribute.tensors, attribute.t)
            yield from (attribute.sparse_tensor.values, attribute.sparse_tensor.indices)
            for inner in (*attribute.graphs, attribute.g):
                if inner.node or inner.initializer:
                    yield from _tensors_of(inner)
