"""Whether FP16 can hold every activation of a bundle, for any image.

The FP32 graphs are run on extreme frames, because a runtime on a CPU computes FP16 graphs in FP32
and would not overflow. Peaks are reduced inside the graph, right behind every layer.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import ModelError
from dad_edge.graphs.quantize import LARGEST_FP16, load_graph
from dad_edge.image.framing import plan_views, views
from dad_edge.runtime.cpu.engine_onnx import LeanEngine
from dad_edge.runtime.cpu.ops import NumpyOps

if TYPE_CHECKING:
    import onnx

MARGIN = 4.0
"""FP16 must be able to hold this many times the peak on the extreme frames."""
_PEAK = "_peak"


def extreme_frames(size: int) -> dict[str, NDArray[np.uint8]]:
    """Frames (S,S,3) uint8 at the ends of what a camera can give, by name."""
    black = np.zeros((size, size, 3), np.uint8)
    hot = black.copy()
    hot[size // 2, size // 2] = 255
    y, x = np.indices((size, size))

    def board(side: int) -> NDArray[np.uint8]:
        cells = ((y // side + x // side) % 2 * 255).astype(np.uint8)
        return np.repeat(cells[:, :, None], 3, axis=2)

    loud = np.random.default_rng(0).integers(0, 2, (size, size, 3), dtype=np.uint8) * 255
    return {
        "black": black,
        "white": 255 - black,
        "one hot pixel": hot,
        "one dark pixel": 255 - hot,
        "fine checkerboard": board(1),
        "coarse checkerboard": board(8),
        "black and white noise": loud.astype(np.uint8),
    }


def activation_peaks(bundle: Bundle) -> dict[str, tuple[float, str]]:
    """Largest magnitude of every activation over the extreme frames.

    Returns:
        `network: tensor` → peak and the name of the frame, largest first.
    """
    model = bundle.model
    ops = NumpyOps(model, bundle.manifest.alpha_bar)
    denoiser, segmenter = (_watched(bundle.path / name) for name in (DENOISER, SEGMENTER))
    peaks: dict[str, tuple[float, str]] = {}

    def keep(network: str, values: dict[str, NDArray[np.float32]], frame: str) -> None:
        for name, value in values.items():
            if name.endswith(_PEAK):
                key, peak = f"{network}: {name.removesuffix(_PEAK)}", float(value)
                if key not in peaks or not peak <= peaks[key][0]:
                    peaks[key] = (peak, frame)

    for label, frame in extreme_frames(model.image_size).items():
        image, x_t = ops.inject(views(frame, plan_views(frame.shape, model)), 0)
        outputs = denoiser.run({"x_t": x_t})
        keep(DENOISER, outputs, label)
        keep(SEGMENTER, segmenter.run({"pair": ops.restore(x_t, outputs["noise"], image)}), label)
    return dict(sorted(peaks.items(), key=lambda item: -item[1][0]))


def check_fp16_range(bundle: Bundle) -> None:
    """Refuse a bundle whose activations FP16 cannot hold.

    Raises:
        ModelError: an activation leaves the range of FP16, or comes near its limit.
    """
    for name, (peak, frame) in activation_peaks(bundle).items():
        if not peak * MARGIN <= LARGEST_FP16:
            raise ModelError(
                f"FP16 is not safe: {name} reaches {peak:.3g} on the frame '{frame}', and FP16 "
                f"ends at {LARGEST_FP16:.0f}.",
                "build with '--precision fp32', or train again with a gradient limit",
            )


def _watched(path: Path) -> LeanEngine:
    """A graph with the peak of every activation among its outputs, on ONNX Runtime."""
    import onnx

    model = load_graph(path)
    activations = set(_activations(model))
    nodes = []
    for node in model.graph.node:
        nodes.append(node)
        for name in activations.intersection(node.output):
            # Right behind the node, so that its output need not be kept for longer.
            absolute, peak = f"{name}_abs", f"{name}{_PEAK}"
            nodes.append(onnx.helper.make_node("Abs", [name], [absolute]))
            nodes.append(onnx.helper.make_node("ReduceMax", [absolute], [peak], keepdims=0))
            model.graph.output.append(
                onnx.helper.make_tensor_value_info(peak, onnx.TensorProto.FLOAT, [])
            )
    model.graph.ClearField("node")
    model.graph.node.extend(nodes)
    return LeanEngine(model)


def _activations(model: onnx.ModelProto) -> list[str]:
    """Float tensors that a graph computes, in its order."""
    import onnx

    graph = onnx.shape_inference.infer_shapes(model).graph
    values = (*graph.value_info, *graph.output)
    single = {v.name for v in values if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT}
    return [name for node in graph.node for name in node.output if name in single]
