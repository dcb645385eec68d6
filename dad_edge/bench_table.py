"""A bench result for people: the table is a view of the JSON."""

from __future__ import annotations

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge import paper


def bench_tables(result: dict[str, Any]) -> Group:
    """What `run_bench` returned, readable at 100 columns."""
    row = result["rows"][0]
    parts: list[Any] = [_heading(result, row), _stages(result, row), _comparison(row)]
    parts.extend(Text(f"! {warning}", style="yellow") for warning in warnings(result))
    return Group(*parts)


def warnings(result: dict[str, Any]) -> list[str]:
    """Reasons not to quote these figures."""
    load, row = result["load"], result["rows"][0]
    found = []
    if row["unstable"]:
        found.append(f"Unstable: {row['unstable']}. Measure longer, or on a quieter machine.")
    if load["other_cores"] is None:
        found.append("Other load is unknown: /proc/stat is not readable here.")
    elif load["loaded"]:
        found.append(
            f"The machine was busy: other processes used {load['other_cores']:.2f} of "
            f"{load['cores']} cores, the host withheld {load['stolen_share']:.1%}. "
            "These figures are lower than an idle machine's."
        )
    return found


def _heading(result: dict[str, Any], row: dict[str, Any]) -> Text:
    cpu, latency = result["environment"]["cpu"], row["latency_ms"]
    shown = "  ".join(f"{name} {latency[name]:.1f}" for name in ("p50", "p90", "p95", "p99"))
    text = Text(f"{row['fps']:.1f} frames/s", style="bold")
    text.append(
        f"   {row['frames']} frames in {row['wall_s']:.1f} s, one at a time\n"
        f"frame in hand → verdict: {shown} ms\n",
        style="not bold",
    )
    text.append(
        f"{cpu['model']}, {cpu['usable_cores']} of {cpu['cores']} cores · {row['backend']}",
        style="not bold dim",
    )
    return text


def _stages(result: dict[str, Any], row: dict[str, Any]) -> Table:
    peak = result["peak"]["gflop_per_s"]
    roof = (
        f"; the roof at that peak is {row['roof_fps']:.0f} frames/s, "
        f"{row['share_of_roof']:.0%} of it reached"
        if row["roof_fps"]
        else ""
    )
    table = Table(
        title="Where the time goes",
        title_justify="left",
        caption=f"This machine's measured peak is {peak:.0f} GFLOP/s{roof}.",
        caption_justify="left",
    )
    table.add_column("stage")
    for heading in ("p50 ms", "p99 ms", "share", "GFLOP", "GFLOP/s", "of peak"):
        table.add_column(heading, justify="right")
    for name, stage in row["stages"].items():
        rate = stage["gflop_per_s"]
        table.add_row(
            name,
            f"{stage['p50']:.2f}",
            f"{stage['p99']:.2f}",
            f"{stage['share']:.0%}",
            _number(stage["gflop"], 2),
            _number(rate, 0),
            f"{rate / peak:.0%}" if rate else "–",
        )
    latency = row["latency_ms"]
    table.add_section()
    table.add_row(
        "frame → verdict",
        f"{latency['p50']:.2f}",
        f"{latency['p99']:.2f}",
        "100%",
        _number(row["gflop"], 2),
        style="bold",
    )
    return table


def _comparison(row: dict[str, Any]) -> Table:
    table = Table(
        title="Beside the paper",
        title_justify="left",
        caption=f"Note: {paper.GPU}, and frames/s at other GFLOP\ndo not compare. "
        "λ is fixed in a bundle's graphs: another row, another bundle.",
        caption_justify="left",
    )
    for heading in ("source", "method", "λ", "pixels"):
        table.add_column(heading)
    for heading in ("GFLOP", "frames/s"):
        table.add_column(heading, justify="right")
    table.add_row(
        "measured now",
        f"{row['method']}, {row['size']}",
        _lambdas(row["lambdas"]),
        str(row["image_size"]),
        _number(row["gflop"], 1),
        f"{row['fps']:.2f}",
        style="bold",
    )
    table.add_section()
    for reported in paper.FPS_ROWS:
        table.add_row(
            reported.source,
            reported.method,
            _lambdas(reported.lambdas),
            str(paper.IMAGE_SIZE),
            _number(reported.gflop, 1),
            f"{reported.fps:.2f}",
        )
    return table


def _lambdas(steps: Any) -> str:
    return ", ".join(map(str, steps)) or "–"


def _number(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
