"""INT8 within a limit: the costliest layers stay float until the accuracy gate passes.

The search runs on ONNX Runtime, where every trial is a graph in memory; the layers it finds hold
for the engine of any runtime.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dad_edge.bundle import DENOISER, REPORTS, SEGMENTER, Bundle
from dad_edge.errors import DataError, UsageError
from dad_edge.files import write_json
from dad_edge.gate.images import FEWEST, Images
from dad_edge.gate.judgement import Judgement, tolerance_of
from dad_edge.gate.sensitivity import (
    LayerCost,
    fewest_float_layers,
    frames_for,
    inspector_of,
    pick_frames,
    rank_layers,
)
from dad_edge.gate.verify import compare
from dad_edge.graphs.quantize import load_graph, typed_graph
from dad_edge.image.pictures import Picture
from dad_edge.machine.environment import describe_machine
from dad_edge.progress import Progress, silent
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.sidecar import LayerChoice

if TYPE_CHECKING:
    import onnx

REPORT = "int8-layers.json"
TIMED_ROUNDS = 3
SHOWN = 5


@dataclass(frozen=True, kw_only=True, slots=True)
class Trial:
    """The judgement of INT8 with some layers in float."""

    float_layers: int
    judgement: Judgement

    @property
    def passed(self) -> bool:
        return self.judgement.outcome == "passed"


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineCost:
    """Size and speed of both networks in one choice of layers."""

    engine: str
    """The choice in words."""
    bytes: int
    ms_per_frame: float
    """Median on this machine, on ONNX Runtime."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Trade:
    """Which layers stay float, and what that costs."""

    choice: LayerChoice
    max_drop: float
    """Largest drop of the image AUROC, in points."""
    images: int
    """Images that every trial was judged on."""
    source: str
    """Where they come from, in words."""
    ranked_on_frames: int
    """Images that the layers were ranked on."""
    ranking: tuple[LayerCost, ...]
    """All INT8 layers, costliest first."""
    trials: tuple[Trial, ...]
    """The trials in the order in which they were made."""
    engines: tuple[EngineCost, ...]
    """FP32, INT8 and the choice."""
    backend: str
    """What ran FP32, in words."""

    @property
    def float_layers(self) -> int:
        """Number of layers that stay float."""
        return sum(map(len, self.choice.float_layers.values()))


def trade(
    bundle: Bundle,
    images: Images,
    max_drop: float,
    progress: Progress = silent,
) -> Trade:
    """Find how few layers must stay float, and write `reports/int8-layers.json`.

    A trial passes where the accuracy gate passes with `max_drop` as its limit.

    Args:
        bundle: a checked bundle with activation ranges, in a folder that may be written.
        images: what to judge on, of the product that the bundle was made for.
        max_drop: largest drop of the image AUROC, in points.
        progress: told of every step.

    Raises:
        UsageError: the limit is negative, or the images are of another product.
        ModelError: the bundle has no activation ranges.
        DataError: an image cannot be read, or nothing can be judged on the images.
        StorageError: the report cannot be written.
    """
    if max_drop < 0:
        raise UsageError(f"--max-drop is {max_drop}, below 0.", "use 0.5, half a point of AUROC")
    if not images.ranked:
        raise UsageError(
            f"--max-drop needs images of {bundle.manifest.class_name}, not of {images.source}.",
            "add '--data FOLDER' with good and defective parts",
        )
    parts = ((sample.defective, sample.frame) for sample in images.read())
    frames = pick_frames(parts, frames_for(bundle))
    ranking = rank_layers(
        bundle, frames, lambda done, total, note="": progress(done, total, "cost of every layer")
    )
    reference = open_graphs(bundle)
    trials: list[Trial] = []

    def passes(layers: Mapping[str, Sequence[str]]) -> bool:
        float_count = sum(map(len, layers.values()))
        note_of_gate = f"gate with {float_count} layers in float"
        judgement = compare(
            reference,
            inspector_of(bundle, graphs_with(bundle, layers)),
            images,
            "int8",
            tolerance_of("int8", max_drop),
            lambda done, total, note="": progress(done, total, note_of_gate),
        )
        if judgement.outcome == "not judged":
            raise _nothing_to_judge_by(judgement)
        trials.append(Trial(float_layers=float_count, judgement=judgement))
        return trials[-1].passed

    layers = fewest_float_layers(ranking, passes)
    result = Trade(
        choice=LayerChoice(float_layers=layers, max_drop=max_drop),
        max_drop=max_drop,
        images=len(images),
        source=images.source,
        ranked_on_frames=len(frames),
        ranking=tuple(ranking),
        trials=tuple(trials),
        engines=_engines(bundle, reference, layers, frames),
        backend=reference.backend,
    )
    write_json(bundle.path / REPORTS / REPORT, trade_json(result))
    return result


def _nothing_to_judge_by(judgement: Judgement) -> DataError:
    return DataError(
        f"the accuracy gate cannot judge on {judgement.source}: {'; '.join(judgement.undefined)}.",
        "train the model longer or on more images"
        if judgement.blind
        else f"give --data a folder with {FEWEST} or more good parts",
    )


def trade_json(result: Trade) -> dict[str, Any]:
    """A trade as `reports/int8-layers.json` holds it."""
    return {
        "max_drop_points": result.max_drop,
        "images": result.images,
        "source": result.source,
        "ranked_on_frames": result.ranked_on_frames,
        "float_layers": result.choice.float_layers,
        "int8_layers": len(result.ranking) - result.float_layers,
        "ranking": [asdict(cost) for cost in result.ranking],
        "trials": [
            {
                "float_layers": trial.float_layers,
                "auroc_drop": trial.judgement.auroc.drop,
                "pro_drop": trial.judgement.pro.drop,
                "mask_error_max": trial.judgement.mask_error_max,
                "score_error_max": trial.judgement.score_error_max,
                "verdict_flips": len(trial.judgement.flips),
                "passed": trial.passed,
            }
            for trial in result.trials
        ],
        "engines": [asdict(cost) for cost in result.engines],
        "backend": result.backend,
        "environment": describe_machine(),
    }


def graphs_with(
    bundle: Bundle, float_layers: Mapping[str, Sequence[str]]
) -> dict[str, onnx.ModelProto]:
    """Both networks in INT8 but for these layers, as ONNX Runtime runs them."""
    return {
        name: typed_graph(bundle, name, "int8", rest="fp32", keep_float=float_layers.get(name, ()))
        for name in (DENOISER, SEGMENTER)
    }


def _engines(
    bundle: Bundle,
    reference: Inspector,
    layers: Mapping[str, Sequence[str]],
    frames: Sequence[Picture],
) -> tuple[EngineCost, ...]:
    """Size and median time of FP32, all layers in INT8, and the choice where it is another.

    The three take turns at every frame, so that other work on the machine slows them alike.
    """
    originals = {name: load_graph(bundle.path / name) for name in (DENOISER, SEGMENTER)}
    rows = [("fp32", originals, reference)]
    choices: dict[str, Mapping[str, Sequence[str]]] = {"int8, all layers": {}}
    if layers:
        choices["int8, chosen layers"] = layers
    for name, kept in choices.items():
        graphs = graphs_with(bundle, kept)
        rows.append((name, graphs, inspector_of(bundle, graphs)))
    spent: dict[str, list[float]] = {name: [] for name, _, _ in rows}
    for frame in list(frames) * TIMED_ROUNDS:
        for name, _, inspector in rows:
            start = time.perf_counter()
            inspector.inspect(frame)
            spent[name].append((time.perf_counter() - start) * 1e3)
    return tuple(
        EngineCost(
            engine=name,
            bytes=sum(graph.ByteSize() for graph in graphs.values()),
            ms_per_frame=round(statistics.median(spent[name]), 2),
        )
        for name, graphs, _ in rows
    )


def in_words(result: Trade) -> str:
    """The outcome for a person: what stays float, and what the engine gains and loses by it."""
    float_layers = [name for names in result.choice.float_layers.values() for name in names]
    worst = ", ".join(f"{cost.layer} ({cost.score_error:.2g})" for cost in result.ranking[:SHOWN])
    count = len(float_layers)
    last = next(trial for trial in reversed(result.trials) if trial.float_layers == count)
    drop = last.judgement.auroc.drop
    gate = f"AUROC drop {100 * drop:.2f} points" if drop is not None else "AUROC not defined"
    lines = [
        f"costliest INT8 layers, by mean score error: {worst}",
        f"kept in float: {', '.join(float_layers) or 'none'} "
        f"({count} of {len(result.ranking)}); "
        f"{gate}, {len(last.judgement.flips)} verdicts of {result.images} flip",
    ]
    lines += [
        f"{cost.engine}: {cost.bytes / 2**20:.2f} MiB, {cost.ms_per_frame:.1f} ms a frame "
        "on this machine"
        for cost in result.engines
    ]
    return "\n".join(lines)
