"""The result of the accuracy gate, as a table for the terminal and as the sentence of its error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dad_edge.gate.judgement import WORST, Figure
from dad_edge.gate.layers import Layers
from dad_edge.gate.report import GateReport
from dad_edge.runtime.sidecar import GateOutcome

if TYPE_CHECKING:
    from rich.table import Table

_SHOWN: dict[GateOutcome, str] = {
    "passed": "passed",
    "failed": "FAILED",
    "not judged": "NOT\nJUDGED",
}


def gate_table(reports: Sequence[GateReport]) -> Table:
    """The reports of `dad_edge.gate.verify` as a table that says why a figure is not defined."""
    from rich.table import Table

    table = Table(title="Accuracy gate")
    table.add_column("engine", overflow="fold", min_width=22)
    for heading in ("mask\nerror", "score\nerror", "AUROC\npoints", "PRO\npoints", "flips", "gate"):
        table.add_column(heading, justify="right", min_width=5)
    for report in reports:
        judged = report.judgement
        table.add_row(
            report.engine,
            f"{judged.mask_error_max:.2g}",
            f"{judged.score_error_max:.2g}",
            _points(judged.auroc),
            _points(judged.pro),
            str(len(judged.flips)),
            _SHOWN[judged.outcome],
        )
    last = reports[-1]
    lines = [
        f"{last.judgement.images} images of {last.judgement.source}; against {last.reference}",
        *(reason for report in reports for reason in report.judgement.undefined),
    ]
    table.caption = "\n".join(dict.fromkeys(lines))
    return table


def layers_table(layers: Layers) -> Table:
    """The layers of an engine in which most error arises, as a table."""
    from rich.table import Table

    table = Table(title=f"Layers of {layers.engine}")
    table.add_column("network")
    table.add_column("layer", overflow="fold")
    for heading in ("error against\nFP32, L2", "of it from\nthis layer"):
        table.add_column(heading, justify="right")
    for each in layers.errors[:WORST]:
        network = each.network.removesuffix(".onnx")
        table.add_row(network, each.layer, _relative(each.error), _relative(each.own))
    table.caption = f"the worst {min(WORST, len(layers.errors))} of {len(layers.errors)}"
    return table


def _relative(share: float | None) -> str:
    return "not finite" if share is None else f"{share:.2g}"


def _points(figure: Figure) -> str:
    drop = figure.drop
    return "–" if drop is None else f"{round(-100 * drop, 2) + 0.0:+.2f}"


def rejection(report: GateReport) -> str:
    """Why an engine was not accepted, in one sentence that names the layers."""
    judged = report.judgement
    if judged.outcome == "not judged":
        return f"the accuracy gate cannot judge {report.engine}: {'; '.join(judged.undefined)}."
    reasons = list(judged.failures)
    if layers := ", ".join(layer.layer for layer in report.costliest_layers):
        reasons.append(f"the layers that {judged.precision.upper()} costs most: {layers}")
    return f"the accuracy gate rejects {report.engine}: {'; '.join(reasons)}."
