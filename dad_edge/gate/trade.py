"""INT8 within a limit: the costliest layers stay float until the accuracy gate passes.

The search runs on ONNX Runtime, where every trial is a graph in memory; the layers it finds hold
for the engine of any runtime.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from dad_edge.bundle import DENOISER, REPORTS, SEGMENTER, Bundle
from dad_edge.errors import UsageError
from dad_edge.files import write_json
from dad_edge.gate.images import Images
from dad_edge.gate.sensitivity import (
    Frame,
    fewest_float_layers,
    frames_for,
    inspector_of,
    pick_frames,
    rank_layers,
)
from dad_edge.gate.verify import compare, tolerance_of
from dad_edge.graphs.quantize import load_graph, typed_graph
from dad_edge.machine.environment import describe as describe_machine
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.sidecar import LayerChoice

if TYPE_CHECKING:
    import onnx

REPORT = "int8-layers.json"
TIMED_ROUNDS = 3
SHOWN = 5

Report = Callable[[float, float, str], None]
"""Told what is done, what there is to do, and the phase in words."""


@dataclass(frozen=True, slots=True)
class Trade:
    """Which layers stay float, and what that costs."""

    choice: LayerChoice
    report: dict[str, Any]
    """What is written into the bundle's reports."""


def trade(
    bundle: Bundle,
    images: Images,
    max_drop: float,
    report: Report = lambda done, total, note: None,
) -> Trade:
    """Find how few layers must stay float, and write `reports/int8-layers.json`.

    A trial passes where the accuracy gate passes with `max_drop` as its limit. Where the images
    define no AUROC, because they are all good or all defective, the share of verdicts that flip
    must not be above `max_drop` percent.

    Args:
        bundle: a checked bundle with activation ranges, in a folder that may be written.
        images: what to judge on, of the product that the bundle was made for.
        max_drop: largest drop of the image AUROC, in points.
        report: told of every step.

    Raises:
        UsageError: the limit is negative, or the images are of another product.
        ModelError: the bundle has no activation ranges.
        DataError: an image cannot be read.
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
    ranking = rank_layers(bundle, frames, lambda n, of: report(n, of, "cost of every layer"))
    reference = open_graphs(bundle)
    trials: list[dict[str, Any]] = []

    def passes(layers: Mapping[str, Sequence[str]]) -> bool:
        kept = sum(map(len, layers.values()))
        judged = compare(
            reference,
            inspector_of(bundle, graphs_with(bundle, layers)),
            images,
            "int8",
            tolerance_of("int8", max_drop),
            lambda done, total: report(done, total, f"gate with {kept} layers in float"),
        )
        flips = 100 * len(judged["verdict_flips"]) / judged["images"]
        passed = judged["passed"] and (judged["auroc_drop"] is not None or flips <= max_drop)
        figures = ("auroc_drop", "pro_drop", "mask_error_max", "score_error_max")
        trials.append(
            {"float_layers": kept, **{name: judged[name] for name in figures}}
            | {"verdict_flips": len(judged["verdict_flips"]), "passed": passed}
        )
        return passed

    layers = fewest_float_layers(ranking, passes)
    choice = LayerChoice(float_layers=layers, max_drop=max_drop)
    found = {
        "max_drop_points": max_drop,
        "images": len(images),
        "source": images.source,
        "ranked_on_frames": len(frames),
        "float_layers": layers,
        "int8_layers": len(ranking) - sum(map(len, layers.values())),
        "ranking": [asdict(cost) for cost in ranking],
        "trials": trials,
        "engines": _engines(bundle, reference, layers, frames),
        "backend": reference.backend,
        "environment": describe_machine(),
    }
    write_json(bundle.path / REPORTS / REPORT, found)
    return Trade(choice, found)


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
    frames: Sequence[Frame],
) -> list[dict[str, Any]]:
    """Size and median time of FP32, all layers in INT8, and the choice where it is another.

    The three take turns at every frame, so that other work on the machine meets them alike.
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
    return [
        {
            "engine": name,
            "bytes": sum(graph.ByteSize() for graph in graphs.values()),
            "ms_per_frame": round(statistics.median(spent[name]), 2),
        }
        for name, graphs, _ in rows
    ]


def describe(found: Trade) -> str:
    """The outcome for a person: what stays float, and what the engine gains and loses by it."""
    report = found.report
    kept = [name for names in found.choice.float_layers.values() for name in names]
    worst = ", ".join(f"{c['layer']} ({c['score_error']:.2g})" for c in report["ranking"][:SHOWN])
    last = next(t for t in reversed(report["trials"]) if t["float_layers"] == len(kept))
    drop = last["auroc_drop"]
    gate = f"AUROC drop {100 * drop:.2f} points" if drop is not None else "AUROC not judged"
    lines = [
        f"costliest INT8 layers, by mean score error: {worst}",
        f"kept in float: {', '.join(kept) or 'none'} ({len(kept)} of {len(report['ranking'])}); "
        f"{gate}, {last['verdict_flips']} verdicts of {report['images']} flip",
    ]
    lines += [
        f"{row['engine']}: {row['bytes'] / 2**20:.2f} MiB, {row['ms_per_frame']:.1f} ms a frame "
        "on this machine"
        for row in report["engines"]
    ]
    return "\n".join(lines)
