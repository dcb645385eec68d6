"""Estimates for a device that is not at hand: its published roof, and a share of it."""

from __future__ import annotations

from typing import Any, Literal

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge.bench.cost import Cost, bundle_cost, total
from dad_edge.bench.devices import DEVICES, DeviceName, DevicePeak
from dad_edge.bench.measure import rounded
from dad_edge.bench.roof import roof_of
from dad_edge.bench.study import run_own
from dad_edge.bench.table import figure
from dad_edge.bundle import Bundle
from dad_edge.config import SizeName

PREDICTION_SCHEMA = 1
MEASURE_SECONDS = 5.0
ASSUMED_SHARES = (0.15, 0.5)
"""Shares of the roof that are assumed to be reached: a cautious one, and this project's aim."""
LAYER_S = 3e-6
"""Assumed time of a layer beside its work: a kernel begins and ends, its operands arrive."""
SIZE_COSTS: dict[SizeName, Cost] = {
    "nano": Cost(gflop=2.5497, weights=852756, activations=23887600, layers=135),
    "edge": Cost(gflop=94.6504, weights=11795260, activations=397076096, layers=242),
    "paper": Cost(gflop=1278.401, weights=152991300, activations=1242765824, layers=242),
}
"""One frame at λ = 100 and 200 of every size, counted as `dad_edge.bench.cost.model_cost` does."""


def predict(
    bundle: Bundle, name: DeviceName, measured: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Estimated frames per second of a bundle and of every size, one frame at a time.

    Args:
        bundle: a checked bundle.
        name: of the device.
        measured: a row measured here, whose share of this machine's roof is a third guess.

    Returns:
        Plain values for JSON. Its frames per second were not measured.
    """
    shares: list[tuple[float, str]] = [(share, "assumed") for share in ASSUMED_SHARES]
    if measured is not None and measured["share_of_roof"] is not None:
        where = f"{measured['engine']} {measured['precision']} on {measured['device']} here"
        shares.append((measured["share_of_roof"], f"reached by {where}"))
    device = DEVICES[name]
    costs = {str(size): cost for size, cost in SIZE_COSTS.items()}
    if (own := total(bundle_cost(bundle))) is not None:
        del costs[bundle.model.size]
        costs = {f"this bundle, {bundle.model.size}": own} | costs
    rows = []
    for what, cost in costs.items():
        for precision, rate in _rates(device):
            gbyte = cost.gigabytes(precision)
            roof = roof_of(cost.gflop, gbyte, 1, rate * 1e3, device.gbyte_per_s)
            memory_bound = roof.memory_fps < roof.arithmetic_fps
            rows.append(
                {
                    "what": what,
                    "precision": precision,
                    "gflop": rounded(cost.gflop),
                    "gbyte": rounded(gbyte),
                    "layers": cost.layers,
                    "roof_fps": rounded(roof.fps),
                    "limited_by": "memory" if memory_bound else "arithmetic",
                    "predicted_fps": [
                        rounded(1 / (1 / (roof.fps * share) + cost.layers * LAYER_S))
                        for share, _ in shares
                    ],
                }
            )
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
        "shares_of_roof": [{"share": share, "from": source} for share, source in shares],
        "assumed_layer_s": LAYER_S,
        "rows": rows,
    }


def estimate(bundle: Bundle, name: DeviceName, seconds: float | None = None) -> dict[str, Any]:
    """`predict`, with the share of the roof that the bundle reaches here measured first.

    Args:
        bundle: a checked bundle.
        name: of the device.
        seconds: how long to measure.
    """
    return predict(bundle, name, run_own(bundle, seconds or MEASURE_SECONDS))


def _rates(device: DevicePeak) -> tuple[tuple[Literal["fp16", "int8"], float], ...]:
    return ("fp16", device.fp16_tflop_per_s), ("int8", device.int8_top_per_s)


def prediction_table(prediction: dict[str, Any]) -> Group:
    """The estimate for a person."""
    shares = prediction["shares_of_roof"]
    table = Table(
        title=f"PREDICTED frames/s, not measured: {prediction['device']}",
        title_justify="left",
        title_style="bold yellow",
    )
    table.add_column("one frame at a time", no_wrap=True)
    table.add_column("", no_wrap=True)
    for heading in ("GFLOP", "MB", "roof"):
        table.add_column(heading, justify="right")
    for heading in (f"at {guess['share']:.0%}" for guess in shares):
        table.add_column(heading, justify="right")
    table.add_column("limit")
    for row in prediction["rows"]:
        table.add_row(
            row["what"],
            row["precision"],
            figure(row["gflop"]),
            figure(row["gbyte"] * 1e3),
            figure(row["roof_fps"]),
            *map(figure, row["predicted_fps"]),
            row["limited_by"],
        )
    peak = prediction["peak"]
    return Group(
        table,
        Text(
            f"Roof: {peak['fp16_tflop_per_s']:g} TFLOP/s FP16 and {peak['int8_top_per_s']:g} TOP/s "
            f"INT8, both dense, and {peak['gbyte_per_s']:g} GB/s. Shares of it: "
            + "; ".join(f"{guess['share']:.0%} {guess['from']}" for guess in shares)
            + f". Every layer is assumed to take {prediction['assumed_layer_s'] * 1e6:g} µs beside "
            "its work. A large cache can lift the limit of memory.",
            style="dim",
        ),
        Text(f"Source: {prediction['source']}.", style="dim"),
    )
