"""Draw accuracy against latency from results of `dad-edge bench` and evaluations.

    python -m benchmarks.plot BENCH.json ... --accuracy REPORT.json ... --out plot.png

An accuracy file is a `report.json` of `dad-edge evaluate` for a bundle, or any result that holds
one. It counts for the runtime and precision that it was made with; in FP32 it counts for every
runtime, because they agree. A row without an accuracy is left out, and the reason is printed.
Needs matplotlib, which the extra 'test' installs.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from matplotlib.transforms import Bbox

from dad_edge.bench import paper
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.result import Row, StudyResult, read_result
from dad_edge.bench.table import configuration
from dad_edge.bundle import DENOISER, SEGMENTER
from dad_edge.errors import DadEdgeError, DataError
from dad_edge.files import write_whole

WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 10.0, 6.2, 130
INK, MUTED, GRID = "#101828", "#5b6678", "#e3e6eb"
COLOURS = {"nano": "#1f5fd6", "edge": "#0b7a43", "paper": "#b3261e"}
TICKS_MS = tuple(digit * 10.0**power for power in range(-2, 6) for digit in (1, 2, 5))
LABEL_SIZE = 9
LABEL_PLACES = tuple(
    (right, up) for up in (0, 13, -13, 26, -26, 39, -39, 52, -52) for right in (9, -9)
)
"""Where a label may lie from its mark, in points; a negative first number is to its left."""
ENGINES = ("TensorRT-RTX", "TensorRT", "OpenVINO", "ONNX Runtime")
"""Engines as evaluations name them; a name that is the beginning of another comes after it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Point:
    """One mark."""

    label: str
    series: str
    """Line of the legend that it belongs to."""
    latency_ms: float
    image_auroc: float
    """In percent."""
    colour: str
    measured: bool = True
    """Whether the mark is filled: measured marks are, the paper's are hollow."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What was evaluated."""

    denoiser: str
    """SHA-256 of its graph."""
    segmenter: str
    """SHA-256 of its graph."""
    engine: str
    precision: str


@dataclass(frozen=True, slots=True)
class Accuracy:
    """The figures of an evaluation."""

    image_auroc: float
    """In [0,1]."""
    data: str
    """Name of the data set."""


Accuracies = Mapping[Evaluated, Accuracy]


def accuracies_in(value: Any) -> Iterator[tuple[Evaluated, Accuracy]]:
    """Every evaluation of a bundle that lies anywhere in decoded JSON.

    Args:
        value: a report of `dad-edge evaluate`, or a result that holds such reports.
    """
    if isinstance(value, list):
        for part in value:
            yield from accuracies_in(part)
    if not isinstance(value, dict):
        return
    summary, context = value.get("summary"), value.get("context")
    if isinstance(summary, dict) and isinstance(context, dict) and "bundle" in context:
        digests, backend = context["bundle"]["sha256"], context["backend"]
        engine = next((name for name in ENGINES if name in backend), "PyTorch")
        precision = next((name for name in ("int8", "fp16") if name in backend), "fp32")
        if (auroc := summary.get("image_auroc")) is not None:
            evaluated = Evaluated(digests[DENOISER], digests[SEGMENTER], engine, precision)
            yield evaluated, Accuracy(float(auroc), str(context["data"]["name"]))
    for part in value.values():
        yield from accuracies_in(part)


def points_of(result: StudyResult, accuracies: Accuracies) -> tuple[list[Point], list[str]]:
    """The marks of a bench result, and why its other rows have none."""
    points, left_out = [], []
    for row in result.rows:
        if not row.is_one_frame:
            continue
        if row.weights == UNTRAINED:
            left_out.append(f"{row.name}: untrained, so it has no accuracy")
        elif (accuracy := accuracy_of(row, result.bundle.sha256, accuracies)) is None:
            made_with = row.precision if row.precision == "fp32" else configuration(row)
            left_out.append(f"{row.name}: no evaluation of this bundle in {made_with} was given")
        else:
            points.append(
                Point(
                    label=("~ " if row.unstable else "") + configuration(row),
                    series=f"{row.size}, measured here, on {accuracy.data}",
                    latency_ms=row.latency_ms.p50,
                    image_auroc=100 * accuracy.image_auroc,
                    colour=COLOURS[row.size],
                )
            )
    return points, left_out


def accuracy_of(row: Row, digests: Mapping[str, str], accuracies: Accuracies) -> Accuracy | None:
    """The evaluation that counts for a row; None where there is none."""
    graphs = digests[DENOISER], digests[SEGMENTER]
    accuracy = accuracies.get(Evaluated(*graphs, row.engine, row.precision))
    if accuracy is not None or row.precision != "fp32":
        return accuracy
    others = (accuracies.get(Evaluated(*graphs, engine, "fp32")) for engine in ENGINES)
    return next((other for other in others if other is not None), None)


def paper_points() -> list[Point]:
    """The rows that the paper reports, a frame's time from its frames per second."""
    points = {}
    for row in paper.FPS_ROWS:
        steps = ", ".join(map(str, row.lambdas))
        name = f"{row.method}{f' λ {steps}' if steps else ''}"
        points[name] = Point(
            label=name,
            series="the paper, on VisA (norm-guided: on four data sets)",
            latency_ms=1e3 / row.fps,
            image_auroc=row.image_auroc,
            colour=MUTED,
            measured=False,
        )
    return list(points.values())


def draw_plot(points: Sequence[Point], device: str) -> Figure:
    """Draw accuracy against latency.

    Args:
        points: ours and the paper's.
        device: where ours were measured.
    """
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0.065, 0.1, 0.925, 0.69))
    figure.text(0.012, 0.953, "Accuracy against latency", size=16, weight="bold", color=INK)
    caption = (
        f"Filled: measured on {device}; one frame at a time, median from frame in hand to verdict."
        "\nHollow: as the paper reports them; it does not name its GPU. "
        "Data sets and devices differ, so the two kinds do not compare directly."
    )
    figure.text(0.012, 0.932, caption, size=9, color=MUTED, va="top", linespacing=1.5)
    _draw_axes(axes, points)
    for series in dict.fromkeys(point.series for point in points):
        members = [point for point in points if point.series == series]
        axes.plot(
            [point.latency_ms for point in members],
            [point.image_auroc for point in members],
            linestyle="none",
            marker="o",
            markersize=9,
            markeredgewidth=2,
            color=members[0].colour,
            markerfacecolor=members[0].colour if members[0].measured else "white",
            label=series,
            zorder=3,
        )
    axes.legend(loc="lower left", fontsize=9, framealpha=1, edgecolor="none", labelcolor=INK)
    _label(axes, points)
    return figure


def _draw_axes(axes: Axes, points: Sequence[Point]) -> None:
    """Limits, numbers, units and grid; frames per second stand above the milliseconds."""
    latencies = [point.latency_ms for point in points]
    axes.set_xscale("log")
    axes.set_xlim(min(latencies) / 1.5, max(latencies) * 2)
    axes.set_ylim(5 * (min(point.image_auroc for point in points) // 5) - 1, 101)
    axes.set_xlabel("latency of a frame, ms (logarithmic)", color=INK)
    axes.set_ylabel("image AUROC, %", color=INK)
    rates = axes.secondary_xaxis("top")
    rates.set_xlabel("frames/s, one at a time", color=MUTED, fontsize=9)
    for axis, number in ((axes.xaxis, "{:g}"), (rates.xaxis, "{:.3g}")):
        axis.set_major_locator(FixedLocator(TICKS_MS))
        axis.set_minor_locator(NullLocator())
        per_second = axis is rates.xaxis
        axis.set_major_formatter(
            FuncFormatter(
                lambda ms, _, number=number, per_second=per_second: number.format(
                    1e3 / ms if per_second else ms
                )
            )
        )
    axes.tick_params(length=0, labelcolor=INK)
    rates.tick_params(length=0, labelcolor=MUTED, labelsize=9)
    axes.grid(color=GRID)
    axes.set_axisbelow(True)
    for side in (*axes.spines.values(), *rates.spines.values()):
        side.set_visible(False)


def _label(axes: Axes, points: Sequence[Point]) -> None:
    """Write every label where it hides nothing, with a line to its mark.

    A label lies over others only if there is no free place for it.
    """
    canvas = axes.figure.canvas
    assert isinstance(canvas, FigureCanvasAgg)
    renderer, font = canvas.get_renderer(), FontProperties(size=LABEL_SIZE)
    pixels = DOTS_PER_INCH / 72
    inside = axes.get_window_extent(renderer)
    legend = axes.get_legend()
    taken = [legend.get_window_extent(renderer)] if legend else []
    for point in points:
        x, y = axes.transData.transform((point.latency_ms, point.image_auroc))
        taken.append(Bbox.from_extents(x - 11, y - 11, x + 11, y + 11))
    for point in sorted(points, key=lambda point: (not point.measured, point.latency_ms)):
        x, y = axes.transData.transform((point.latency_ms, point.image_auroc))
        width, height, _ = renderer.get_text_width_height_descent(point.label, font, False)
        boxes = {}
        for right, up in LABEL_PLACES:
            left = x + right * pixels - (width if right < 0 else 0)
            low = y + up * pixels - height / 2
            boxes[right, up] = Bbox.from_bounds(left, low, width, height)
        free = (
            place
            for place, box in boxes.items()
            if inside.x0 < box.x0 and box.x1 < inside.x1 and not box.count_overlaps(taken)
        )
        place = next(free, LABEL_PLACES[0])
        taken.append(boxes[place])
        axes.annotate(
            point.label,
            (point.latency_ms, point.image_auroc),
            xytext=place,
            textcoords="offset points",
            ha="left" if place[0] > 0 else "right",
            va="center",
            fontproperties=font,
            color=point.colour,
            arrowprops={"arrowstyle": "-", "color": point.colour, "lw": 0.7, "shrinkB": 4}
            if place[1]
            else None,
        )


def main(arguments: list[str] | None = None) -> int:
    """Draw the picture and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="+")
    parser.add_argument("--accuracy", type=Path, nargs="+", default=[])
    parser.add_argument("--out", type=Path, default=Path("plot.png"))
    chosen = parser.parse_args(arguments)
    try:
        accuracies = dict(entry for path in chosen.accuracy for entry in accuracies_in(_json(path)))
        points: list[Point] = []
        devices: dict[str, None] = {}
        for path in chosen.results:
            result = read_result(path)
            devices[result.device] = None
            found, left_out = points_of(result, accuracies)
            points += found
            for reason in left_out:
                print(f"left out: {reason}", file=sys.stderr)
        if not points:
            raise DataError(
                "no row has an accuracy.",
                "evaluate the measured bundle: dad-edge evaluate --data DIR --bundle BUNDLE",
            )
        picture = io.BytesIO()
        draw_plot([*points, *paper_points()], " and ".join(devices)).savefig(picture, format="png")
        write_whole(chosen.out, picture.getvalue())
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        return error.exit_code
    print(chosen.out)
    return 0


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(f"cannot read {path}: {error}.", "give a JSON file") from error


if __name__ == "__main__":
    sys.exit(main())
