"""What the accuracy gate found, as a table for the terminal and as the sentence of its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def gate_table(reports: Sequence[dict[str, Any]]) -> Table:
    """The reports of `dad_edge.gate.verify` as a table."""
    from rich.table import Table

    table = Table(title="Accuracy gate")
    table.add_column("engine", overflow="fold", min_width=22)
    for heading in ("mask\nerror", "score\nerror", "AUROC\npoints", "PRO\npoints", "flips", "gate"):
        table.add_column(heading, justify="right", min_width=5)
    for report in reports:
        table.add_row(
            report["engine"],
            f"{report['mask_error_max']:.2g}",
            f"{report['score_error_max']:.2g}",
            _points(report["auroc_drop"]),
            _points(report["pro_drop"]),
            str(len(report["verdict_flips"])),
            "passed" if report["passed"] else "FAILED",
        )
    last = reports[-1]
    table.caption = f"{last['images']} images of {last['source']}; against {last['reference']}"
    if last["auroc_drop"] is None:
        table.caption += "; AUROC needs good and defective parts of this product: --data FOLDER"
    return table


def _points(drop: float | None) -> str:
    return "–" if drop is None else f"{round(-100 * drop, 2) + 0.0:+.2f}"


def rejection(report: dict[str, Any]) -> str:
    """Why an engine was rejected, in one sentence that names the layers."""
    reasons = list(report["failures"])
    if layers := ", ".join(cost["layer"] for cost in report["costliest_layers"]):
        reasons.append(f"the layers that {report['precision'].upper()} costs most: {layers}")
    return f"the accuracy gate rejects {report['engine']}: {'; '.join(reasons)}."
