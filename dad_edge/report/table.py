"""A report for the terminal: figures and kinds at a glance."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge.report.results import Report

_NAMED = 5
"""Images outside of the scene that are named; the report names them all."""


def report_tables(report: Report) -> Group:
    """The figures of a report and its table of kinds, readable at 80 columns."""
    figures = Table(title=Text(report.title, style="bold"), title_justify="left")
    figures.add_column("Figure")
    figures.add_column("All images", justify="right")
    for name, _, figure in report.summary.named():
        figures.add_row(name, figure.in_words(2))

    kinds = Table()
    kinds.add_column("Kind", overflow="fold")
    kinds.add_column("Images", justify="right", no_wrap=True)
    kinds.add_column("Image AUROC", justify="right", min_width=12)
    for name in ("Mean score", "Rejected", "Wrong"):
        kinds.add_column(name, justify="right", no_wrap=True)
    for row in report.kinds:
        kinds.add_row(
            Text(row.kind),
            str(row.images),
            row.image_auroc.in_words(2) if row.image_auroc else "",
            f"{row.mean_score:.4f}",
            str(row.rejected),
            Text(str(row.wrong), style="bold red" if row.wrong else ""),
        )
    data, context = report.context.data, report.context
    lines = [
        f"Threshold {report.threshold:.4g}, {report.threshold_origin}.",
        f"{data.images} images in {context.seconds:.1f} s, "
        f"{context.images_per_second:.1f} images/s with reading and measuring.",
    ]
    if unmarked := data.defective_without_mask:
        lines.append(f"Pixel figures leave out {unmarked} defective images without a mask.")
    if outside := report.outside_scene:
        lines.append(
            f"Invalid whatever their score, and rejected at the line: {len(outside)} images."
        )
        named = [f"  {name}: {reason}" for name, reason in outside.items()]
        lines += named[:_NAMED]
        if left := named[_NAMED:]:
            lines.append(f"  and {len(left)} more, which the report names.")
    return Group(figures, kinds, *map(Text, lines))
