"""How much accuracy each INT8 layer costs, and how few of them have to stay in float.

One layer at a time is quantized while all others stay FP32. Its cost is how far the scores of a few
parts move, on the same noise. ONNX Runtime runs this; the layers found hold for every runtime.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import ModelError
from dad_edge.graphs.cost import count_gflop
from dad_edge.graphs.quantize import CALIBRATE, inner_convolutions, layer_name, load_graph, to_int8
from dad_edge.image.pictures import Picture
from dad_edge.progress import Progress, silent
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.seams import Engine

if TYPE_CHECKING:
    import onnx

MOST_FRAMES = 8
"""Most frames of good parts, and most of defective ones, that the costs are measured on."""
FEWEST_FRAMES = 2
BUDGET_GFLOP = 2000.0
"""About the arithmetic of one ranking: large networks are measured on fewer frames."""

Layers = Mapping[str, Sequence[str]]
"""Network file → layers, by `layer_name`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LayerCost:
    """What it costs to quantize one layer alone."""

    network: str
    """File name of the network."""
    layer: str
    score_error: float
    """Mean absolute difference of the image scores from FP32."""
    mask_error: float
    """Mean absolute difference of the pixels of the score maps."""


def rank_layers(
    bundle: Bundle, frames: Sequence[Picture], progress: Progress = silent
) -> list[LayerCost]:
    """The INT8 layers of both networks, costliest first.

    Args:
        bundle: a checked bundle with activation ranges.
        frames: (H,W,3) uint8 BGR each, from `pick_frames`.
        progress: told of every layer.

    Raises:
        ModelError: the bundle has no activation ranges.
    """
    graphs = {name: load_graph(bundle.path / name) for name in (DENOISER, SEGMENTER)}
    plain = {name: engine_of(graph) for name, graph in graphs.items()}
    tape = _Tape(plain[DENOISER], len(frames))
    expected = _inspect_all(_inspector(bundle, tape, plain[SEGMENTER]), frames)
    costs: list[LayerCost] = []
    layers = {name: layers_of(graph) for name, graph in graphs.items()}
    total = sum(map(len, layers.values()))
    for name, names in layers.items():
        for layer in names:
            others = [other for other in names if other != layer]
            quantized = engine_of(to_int8(graphs[name], ranges_of(bundle, name), others))
            networks = (quantized, plain[SEGMENTER]) if name == DENOISER else (tape, quantized)
            actual = _inspect_all(_inspector(bundle, *networks), frames)
            errors = [
                (abs(a[0] - b[0]), float(np.abs(a[1] - b[1]).mean()))
                for a, b in zip(expected, actual, strict=True)
            ]
            score, mask = np.mean(errors, axis=0)
            costs.append(
                LayerCost(
                    network=name, layer=layer, score_error=float(score), mask_error=float(mask)
                )
            )
            progress(len(costs), total)
    return sorted(costs, key=lambda cost: (-cost.score_error, -cost.mask_error))


def fewest_float_layers(
    ranking: Sequence[LayerCost], passes: Callable[[dict[str, tuple[str, ...]]], bool]
) -> dict[str, tuple[str, ...]]:
    """The fewest of the costliest layers that must stay float for a check to pass.

    The number is doubled until the check passes, and then narrowed between the last number that
    failed and the first that passed. The layers that are returned have passed.

    Args:
        ranking: layers, costliest first.
        passes: the check; it holds at the latest when every layer is float.

    Returns:
        Network file → layers.
    """
    failed, passed = -1, 0
    while not passes(as_layers(ranking[:passed])):
        if passed >= len(ranking):
            return as_layers(ranking)
        failed, passed = passed, min(max(1, 2 * passed), len(ranking))
    while passed - failed > 1:
        middle = (failed + passed) // 2
        if passes(as_layers(ranking[:middle])):
            passed = middle
        else:
            failed = middle
    return as_layers(ranking[:passed])


def as_layers(costs: Iterable[LayerCost]) -> dict[str, tuple[str, ...]]:
    """Layers by network, costliest first."""
    layers: dict[str, tuple[str, ...]] = {}
    for cost in costs:
        layers[cost.network] = (*layers.get(cost.network, ()), cost.layer)
    return layers


def layers_of(graph: onnx.ModelProto) -> list[str]:
    """Names of the layers of a network that INT8 may take."""
    return [layer_name(node) for node in inner_convolutions(graph)]


def ranges_of(bundle: Bundle, network: str) -> dict[str, tuple[float, float]]:
    """Activation ranges of a network.

    Raises:
        ModelError: the bundle has none.
    """
    ranges = bundle.calibration.ranges.get(network) if bundle.calibration else None
    if ranges is None:
        raise ModelError(f"{bundle.path} has no activation ranges for {network}.", CALIBRATE)
    return ranges


def frames_for(bundle: Bundle) -> int:
    """Number of good frames, and of defective ones, for a ranking of this bundle's layers."""
    gflop = layers = 0.0
    for name in (DENOISER, SEGMENTER):
        gflop += count_gflop(bundle.path / name, len(bundle.model.lambdas))
        layers += len(layers_of(load_graph(bundle.path / name)))
    affordable = int(BUDGET_GFLOP / max(2 * layers * gflop, 1e-9))
    return min(MOST_FRAMES, max(FEWEST_FRAMES, affordable))


def pick_frames(parts: Iterable[tuple[bool, Picture]], count: int) -> list[Picture]:
    """Up to `count` good and `count` defective frames, evenly spread over a sequence of any length.

    Args:
        parts: whether it is defective, and the frame of each part.
        count: frames of each kind, at least one.
    """
    kept: dict[bool, list[Picture]] = {False: [], True: []}
    counts, stride = {False: 0, True: 0}, {False: 1, True: 1}
    for defective, frame in parts:
        if counts[defective] % stride[defective] == 0:
            if len(kept[defective]) == 2 * count:
                kept[defective] = kept[defective][::2]
                stride[defective] *= 2
            if counts[defective] % stride[defective] == 0:
                kept[defective].append(frame)
        counts[defective] += 1
    return [frame for kind in (False, True) for frame in kept[kind][:: _step(kept[kind], count)]]


def _step(frames: Sequence[Picture], count: int) -> int:
    return -(-len(frames) // count) or 1


def inspector_of(bundle: Bundle, graphs: Mapping[str, onnx.ModelProto]) -> HostInspector:
    """An inspector on ONNX Runtime with graphs that are not on disk.

    Args:
        bundle: a checked bundle.
        graphs: network file → graph that stands in its place.
    """
    return _inspector(bundle, *(engine_of(graphs[name]) for name in (DENOISER, SEGMENTER)))


def engine_of(graph: onnx.ModelProto) -> OnnxEngine:
    """A graph in memory on ONNX Runtime."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(graph, path)
        return OnnxEngine(path)


def _inspector(bundle: Bundle, denoiser: Engine, segmenter: Engine) -> HostInspector:
    threshold = bundle.thresholds.image_threshold if bundle.thresholds else 0.5
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    return HostInspector(ops, denoiser, segmenter, threshold, ignore=bundle.ignore)


def _inspect_all(
    inspector: HostInspector, frames: Sequence[Picture]
) -> list[tuple[float, NDArray[np.float32]]]:
    """Score and score map of every frame."""
    inspections = (inspector.inspect(frame) for frame in frames)
    return [(inspection.score, inspection.score_map) for inspection in inspections]


class _Tape:
    """The FP32 denoiser's answers to the frames: recorded once, then given in the same order."""

    def __init__(self, engine: Engine, frames: int) -> None:
        self.name = engine.name
        self._engine = engine
        self._frames = frames
        self._answers: list[dict[str, NDArray[np.float32]]] = []
        self._next = 0

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        if len(self._answers) < self._frames:
            self._answers.append(self._engine.run(inputs))
        self._next += 1
        return self._answers[(self._next - 1) % self._frames]
