"""A report for the terminal: figures and kinds at a glance."""

from __future__ import annotations

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge.report.page import FIGURES, Report


def report_tables(report: Report) -> Group:
    """The figures of a report and its table of kinds, readable at 80 columns."""
    figures = Table(title=report.title, title_style="bold", title_justify="left")
    for name, _ in FIGURES.values():
        figures.add_column(name, justify="right")
    figures.add_row(*(_percent(report.summary.get(key)) for key in FIGURES))

    kinds = Table()
    kinds.add_column("Kind")
    for name in ("Images", "Image AUROC", "Mean score", "Rejected", "Wrong"):
        kinds.add_column(name, justify="right", no_wrap=True)
    for row in report.kinds:
        missed, false_alarms = row["missed"], row["false_alarms"]
        wrong = false_alarms if missed is None else missed
        rejected = wrong if missed is None else row["detected_at_threshold"]
        kinds.add_row(
            Text(str(row["kind"])),
            str(row["images"]),
            _percent(row["image_auroc"]),
            f"{row['mean_score']:.4f}",
            str(rejected),
            Text(str(wrong), style="bold red" if wrong else ""),
        )
    data, context = report.context["data"], report.context
    lines = [
        f"Threshold {report.threshold:.4g}, {report.threshold_origin}.",
        f"{data['images']} images in {context['seconds']:.1f} s, "
        f"{context['images_per_second']:.1f} images/s with reading and measuring.",
    ]
    lines += [
        f"{name} is not defined: {report.undefined[key]}."
        for key, (name, _) in FIGURES.items()
        if key in report.undefined
    ]
    if unmarked := data["defective_without_mask"]:
        lines.append(f"Pixel figures leave out {unmarked} defective images without a mask.")
    return Group(figures, kinds, *map(Text, lines))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"
