"""The graph that a runtime gets for an engine: the bundle's, typed and written for that runtime."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from dad_edge.bundle import Bundle
from dad_edge.config import Precision, RuntimeName
from dad_edge.graphs.openvino import for_openvino
from dad_edge.graphs.quantize import Rest, typed_graph
from dad_edge.graphs.tensorrt import for_tensorrt
from dad_edge.runtime.engines import CPU_RUNTIMES

if TYPE_CHECKING:
    import onnx


def engine_graph(
    bundle: Bundle,
    network: str,
    precision: Precision,
    runtime: RuntimeName,
    float_layers: Collection[str] = (),
) -> onnx.ModelProto:
    """One network of an engine.

    Args:
        bundle: a checked bundle.
        network: its file name.
        precision: of the engine.
        runtime: of the engine.
        float_layers: layers that INT8 leaves alone, by `layer_name`.

    Raises:
        ModelError: see `typed_graph`.
    """
    model = typed_graph(bundle, network, precision, rest=rest_of(runtime), keep_float=float_layers)
    if runtime == "openvino":
        return for_openvino(model)
    return model if runtime in CPU_RUNTIMES else for_tensorrt(model)


def rest_of(runtime: RuntimeName) -> Rest:
    """The precision of the layers that INT8 leaves alone: CPU runtimes compute FP16 in FP32."""
    return "fp32" if runtime in CPU_RUNTIMES else "fp16"
