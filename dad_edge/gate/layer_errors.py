"""Where the graphs of an engine leave the FP32 graphs: relative error after every layer.

`layer_errors` runs FP16 graphs on ONNX Runtime on the CPU, with the outputs of all convolutions
marked in both graphs. An engine of another runtime computes the same typed graph. What is found
here holds for it too, as far as the error comes from the precision; `dad_edge.gate.layers` asks the
runtime itself. For INT8 see `dad_edge.gate.sensitivity`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.graphs.engine import engine_graph
from dad_edge.graphs.quantize import layer_name, load_graph
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
    """Errors of all convolutions in FP16 on one frame; those where most error arises come first.

    Args:
        bundle: a checked bundle.
        frame: (H,W,3) uint8 BGR.
    """
    found: list[LayerError] = []
    for name, given in network_inputs(bundle, frame).items():
        model = load_graph(bundle.path / name)
        layers = layers_of(model)
        expected = _outputs(with_outputs(model, layers), given)
        built = engine_graph(bundle, name, "fp16", "tensorrt")
        actual = _outputs(with_outputs(built, layers), given)
        found += errors_of(name, layers, expected, actual)
    return worst_first(found)


def network_inputs(bundle: Bundle, frame: NDArray[np.uint8]) -> dict[str, Tensors]:
    """What both networks are given for one frame, by their file names.

    The segmenter sees what the FP32 denoiser leads to, so that it is not blamed for the denoiser.

    Args:
        bundle: a checked bundle.
        frame: (H,W,3) uint8 BGR.

    Returns:
        `x_t` (L·B,3,S,S) of the denoiser and `pair` (L·B,6,S,S), or (B,6,S,S) if guided, of the
        segmenter, float32; B is the number of tiles.
    """
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    image, x_t = ops.inject(views(frame, plan_views(frame.shape, bundle.model)), 0)
    noise = OnnxEngine(bundle.path / DENOISER).run({"x_t": x_t})["noise"]
    return {DENOISER: {"x_t": x_t}, SEGMENTER: {"pair": ops.restore(x_t, noise, image)}}


def layers_of(model: onnx.ModelProto) -> dict[str, str]:
    """The tensor that each convolution writes → its name by `layer_name`, in the graph's order."""
    return {n.output[0]: layer_name(n) for n in model.graph.node if n.op_type == "Conv"}


def with_outputs(model: onnx.ModelProto, names: Iterable[str]) -> onnx.ModelProto:
    """A graph that gives these inner tensors and nothing else."""
    import onnx

    marked = onnx.ModelProto()
    marked.CopyFrom(model)
    del marked.graph.output[:]
    inferred = onnx.shape_inference.infer_shapes(marked)
    known = {value.name: value for value in inferred.graph.value_info}
    marked.graph.output.extend(known.get(n, onnx.ValueInfoProto(name=n)) for n in names)
    return marked


def errors_of(
    network: str,
    layers: Mapping[str, str],
    expected: Mapping[str, NDArray[Any]],
    actual: Mapping[str, NDArray[Any]],
) -> list[LayerError]:
    """Errors of the layers of one network, in the order of `layers`.

    Args:
        network: its file name.
        layers: tensor → layer.
        expected: the tensors in FP32.
        actual: the same of the engine, of any float type.
    """
    found: list[LayerError] = []
    before = 0.0
    for output, layer in layers.items():
        error = relative_error(expected[output], actual[output])
        own = None if error is None else max(error - before, 0.0)
        found.append(LayerError(network, layer, error, own))
        before = float("inf") if error is None else error
    return found


def worst_first(errors: Iterable[LayerError]) -> list[LayerError]:
    """The layers in which most error arises first.

    Of layers that are not finite the first one of a network is the cause, and comes before all
    others; those behind it only suffer.
    """
    ranked: list[tuple[float, LayerError]] = []
    broken: set[str] = set()
    for each in errors:
        if each.error is None:
            weight = 0.0 if each.network in broken else float("inf")
            broken.add(each.network)
        else:
            weight = each.own or 0.0
        ranked.append((weight, each))
    return [each for _, each in sorted(ranked, key=lambda pair: -pair[0])]


def relative_error(expected: NDArray[Any], actual: NDArray[Any]) -> float | None:
    """‖actual - expected‖ / ‖expected‖ in L2; None if a number is not finite."""
    difference = actual.astype(np.float64) - expected
    if not np.isfinite(difference).all():
        return None
    return float(np.linalg.norm(difference)) / max(float(np.linalg.norm(expected)), 1e-12)


def _outputs(model: onnx.ModelProto, inputs: Tensors) -> Tensors:
    """What a graph gives on ONNX Runtime."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "marked.onnx"
        onnx.save(model, path)
        return OnnxEngine(path).run(inputs)
