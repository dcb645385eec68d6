"""Estimates for another device: its published roof, and a share of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge.bench.cost import Cost, bundle_cost, total
from dad_edge.bench.devices import DEVICES, DevicePeak
from dad_edge.bench.measure import rounded
from dad_edge.bench.names import DeviceName
from dad_edge.bench.result import Row
from dad_edge.bench.roof import roof_of
from dad_edge.bench.row import run_own
from dad_edge.bench.table import figure
from dad_edge.bundle import Bundle
from dad_edge.config import SizeName

PREDICTION_SCHEMA = 1
PRECISIONS = ("fp16", "int8")
MEASURE_SECONDS = 5.0
ASSUMED_SHARES = (0.15, 0.5)
"""Shares of the roof that are assumed: a cautious one, and the one that this project aims at."""
LAYER_S = 3e-6
"""Assumed time that a layer takes beside its work, to begin, to end and to get its operands."""
SIZE_COSTS: dict[SizeName, Cost] = {
    "nano": Cost(gflop=6.6704, weights=2640212, activations=86839404, layers=168),
    "edge": Cost(gflop=12.5189, weights=4452460, activations=97133708, layers=168),
    "paper": Cost(gflop=1278.401, weights=152991300, activations=1242765824, layers=242),
}
"""Cost of one frame at λ = 100 and 200 for every size, as `bench.cost.model_cost` counts it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Guess:
    """A share of the roof that may be reached."""

    share: float
    """In [0,1]."""
    source: str
    """Where it comes from."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictedRow:
    """The estimate for one network in one precision."""

    what: str
    precision: str
    gflop: float
    """Arithmetic of one frame."""
    gbyte: float
    """Gigabytes that one frame moves, if nothing stays in a cache between two layers."""
    layers: int
    """Layers of both networks."""
    roof_fps: float
    """Frames per second that the published peaks allow."""
    limited_by: str
    """`memory` or `arithmetic`."""
    predicted_fps: tuple[float, ...]
    """Frames per second at every guessed share of the roof."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Prediction:
    """Estimates for one device; none of its frames per second were measured."""

    device: DevicePeak
    shares_of_roof: tuple[Guess, ...]
    rows: tuple[PredictedRow, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain values for JSON."""
        device = self.device
        return {
            "schema_version": PREDICTION_SCHEMA,
            "study": "predict",
            "predicted": True,
            "device": device.title,
            "source": device.source,
            "peak": {
                "fp16_tflop_per_s": device.fp16_tflop_per_s,
                "int8_top_per_s": device.int8_top_per_s,
                "gbyte_per_s": device.gbyte_per_s,
            },
            "shares_of_roof": [
                {"share": guess.share, "from": guess.source} for guess in self.shares_of_roof
            ],
            "assumed_layer_s": LAYER_S,
            "rows": [asdict(row) for row in self.rows],
        }


def predict(bundle: Bundle, name: DeviceName, measured: Row | None = None) -> Prediction:
    """Estimated frames per second of a bundle and of every size, one frame at a time.

    Args:
        bundle: a checked bundle.
        name: of the device.
        measured: a row measured here; its share of this machine's roof is a third guess.
    """
    guesses = [Guess(share=share, source="assumed") for share in ASSUMED_SHARES]
    if measured is not None and measured.share_of_roof is not None:
        where = f"{measured.engine} {measured.precision} on {measured.device} here"
        guesses.append(Guess(share=measured.share_of_roof, source=f"reached by {where}"))
    device = DEVICES[name]
    costs = {str(size): cost for size, cost in SIZE_COSTS.items()}
    if (cost_here := total(bundle_cost(bundle))) is not None:
        del costs[bundle.model.size]
        costs = {f"this bundle, {bundle.model.size}": cost_here} | costs
    rows = tuple(
        _predict_row(label, cost, device, precision, guesses)
        for label, cost in costs.items()
        for precision in PRECISIONS
    )
    return Prediction(device=device, shares_of_roof=tuple(guesses), rows=rows)


def _predict_row(
    label: str, cost: Cost, device: DevicePeak, precision: str, guesses: Sequence[Guess]
) -> PredictedRow:
    peak = device.fp16_tflop_per_s if precision == "fp16" else device.int8_top_per_s
    gbyte = cost.gigabytes(precision)
    roof = roof_of(cost.gflop, gbyte, 1, peak * 1e3, device.gbyte_per_s)
    return PredictedRow(
        what=label,
        precision=precision,
        gflop=rounded(cost.gflop),
        gbyte=rounded(gbyte),
        layers=cost.layers,
        roof_fps=rounded(roof.fps),
        limited_by="memory" if roof.memory_fps < roof.arithmetic_fps else "arithmetic",
        predicted_fps=tuple(
            rounded(1 / (1 / (roof.fps * guess.share) + cost.layers * LAYER_S)) for guess in guesses
        ),
    )


def estimate(bundle: Bundle, name: DeviceName, seconds: float | None = None) -> Prediction:
    """Measure the share of the roof that the bundle reaches here, then `predict`.

    Args:
        bundle: a checked bundle.
        name: of the device.
        seconds: how long to measure.
    """
    return predict(bundle, name, run_own(bundle, seconds or MEASURE_SECONDS))


def prediction_table(prediction: Prediction) -> Group:
    """The estimate for a person."""
    device, guesses = prediction.device, prediction.shares_of_roof
    table = Table(
        title=f"PREDICTED frames/s, not measured: {device.title}",
        title_justify="left",
        title_style="bold yellow",
    )
    table.add_column("one frame at a time", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("GFLOP", "MB", "roof"):
        table.add_column(heading, justify="right")
    for guess in guesses:
        table.add_column(f"at {guess.share:.0%}", justify="right")
    table.add_column("limit")
    for row in prediction.rows:
        table.add_row(
            row.what,
            row.precision,
            figure(row.gflop),
            figure(row.gbyte * 1e3),
            figure(row.roof_fps),
            *map(figure, row.predicted_fps),
            row.limited_by,
        )
    return Group(
        table,
        Text(
            f"Roof: {device.fp16_tflop_per_s:g} TFLOP/s FP16 and {device.int8_top_per_s:g} TOP/s "
            f"INT8, both dense, and {device.gbyte_per_s:g} GB/s. Shares of it: "
            + "; ".join(f"{guess.share:.0%} {guess.source}" for guess in guesses)
            + f". Every layer is assumed to take {LAYER_S * 1e6:g} µs beside "
            "its work. A large cache can lift the limit of memory.",
            style="dim",
        ),
        Text(f"Source: {device.source}.", style="dim"),
    )
