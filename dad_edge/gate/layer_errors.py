"""Where the FP16 graphs leave the FP32 graphs: relative error after every layer, worst first.

Runs on ONNX Runtime on the CPU, with the outputs of all convolutions marked in both graphs. An
engine of another runtime computes the same typed graph. What is found here holds for it too, as far
as the error comes from the precision. For INT8 see `dad_edge.gate.sensitivity`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.graphs.quantize import layer_name, load_graph, typed_graph
from dad_edge.graphs.tensorrt import for_tensorrt
from dad_edge.image.framing import plan_views, views
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.ops import NumpyOps

if TYPE_CHECKING:
    import onnx

Tensors = dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class LayerError:
    """How far the output of one layer is from FP32."""

    network: str
    """File name of the network."""
    layer: str
    """Name by `layer_name`."""
    error: float | None
    """Relative L2 error of its output; None where a number is not finite."""
    own: float | None
    """The part of it that arose since the convolution before; at least 0."""


def layer_errors(bundle: Bundle, frame: NDArray[np.uint8]) -> list[LayerError]:
    """Errors of all convolutions on one frame; the layers where most error arises come first.

    Both networks see the input that FP32 gives them, so that the segmenter is not blamed for the
    denoiser.

    Args:
        bundle: a checked bundle.
        frame: (H,W,3) uint8 BGR.
    """
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    image, x_t = ops.inject(views(frame, plan_views(frame.shape, bundle.model)), 0)
    noise = OnnxEngine(bundle.path / DENOISER).run({"x_t": x_t})["noise"]
    inputs = {DENOISER: {"x_t": x_t}, SEGMENTER: {"pair": ops.restore(x_t, noise, image)}}
    ranked: list[tuple[float, LayerError]] = []
    for name, given in inputs.items():
        before = 0.0
        model = load_graph(bundle.path / name)
        layers = {n.output[0]: layer_name(n) for n in model.graph.node if n.op_type == "Conv"}
        expected = _outputs(model, layers, given)
        built = for_tensorrt(typed_graph(bundle, name, "fp16", rest="fp16"))
        actual = _outputs(built, layers, given)
        for output, layer in layers.items():
            error = _relative(expected[output], actual[output])
            if np.isfinite(error):
                added = max(error - before, 0.0)
                ranked.append((added, LayerError(name, layer, error, added)))
            else:
                # The first layer that breaks is the cause; the layers behind it only suffer.
                weight = error if np.isfinite(before) else 0.0
                ranked.append((weight, LayerError(name, layer, None, None)))
            before = error
    return [layer for _, layer in sorted(ranked, key=lambda pair: -pair[0])]


def _outputs(model: onnx.ModelProto, names: Iterable[str], inputs: Tensors) -> Tensors:
    """Values of inner tensors of a graph."""
    import onnx

    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marked.onnx"
        onnx.save(onnx.shape_inference.infer_shapes(model), path)
        return OnnxEngine(path).run(inputs)


def _relative(expected: NDArray[Any], actual: NDArray[Any]) -> float:
    difference = actual.astype(np.float64) - expected
    if not np.isfinite(difference).all():
        return float("inf")
    return float(np.linalg.norm(difference)) / max(float(np.linalg.norm(expected)), 1e-12)
