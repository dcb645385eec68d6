"""A bench result for people: the tables are views of the JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from dad_edge.bench import paper
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.result import (
    Configuration,
    LayerProfile,
    NotMeasured,
    Row,
    StudyResult,
    Sweep,
)

SHOWN_SLOWED = 0.05
"""A machine that was slowed for a smaller share of the time is not mentioned."""


def bench_tables(result: StudyResult) -> Group:
    """The result of a study as tables that are readable at 100 columns."""
    parts: list[Any] = [_heading(result)]
    if result.rows:
        parts.append(_rows(result))
    if (row := own_row(result)) is not None and row.stages:
        parts.append(_stages(row))
    if layers := [profile for profile in result.layers or () if profile.groups]:
        parts.append(_layers(layers))
    if "main" in _studies(result):
        parts.append(_paper_rows())
    if result.scaling:
        parts.append(_scaling(result.scaling))
    if result.not_measured:
        parts.append(_not_measured(result.not_measured))
    parts.extend(Text(f"! {warning}", style="yellow") for warning in warnings(result))
    return Group(*parts)


def own_row(result: StudyResult) -> Row | None:
    """The fastest row of the user's bundle, one frame at a time; None where none was measured."""
    candidates = [row for row in result.rows if row.weights != UNTRAINED and row.is_one_frame]
    return max(candidates, key=lambda row: row.fps, default=None)


def warnings(result: StudyResult) -> list[str]:
    """Reasons not to quote these figures, and what was left out of them."""
    load = result.load
    reasons = []
    watched = [row.slowed_share for row in result.rows if row.slowed_share is not None]
    if watched and (slowed := sum(watched) / len(watched)) > SHOWN_SLOWED:
        reasons.append(
            f"The machine itself was slowed for {slowed:.0%} of the measured time, by other "
            "programs, by neighbours on its host or by its clock. "
            "Rows without ~ do not count that time."
        )
    if shaky := [row for row in result.rows if row.unstable]:
        reasons.append(
            f"~ marks {len(shaky)} unstable of {len(result.rows)} rows; the first: "
            f"{shaky[0].unstable}. Measure longer, or on a quieter machine."
        )
    if load.other_cores is None:
        reasons.append("Other load is unknown: /proc/stat is not readable here.")
    elif load.loaded:
        reasons.append(
            f"The machine was busy: other processes used {load.other_cores:.2f} of "
            f"{load.cores} cores, the host withheld {load.stolen_share:.1%}. "
            "These figures are lower than an idle machine's."
        )
    throttled = {reason for row in result.rows for reason in row.throttling}
    reasons.extend(f"Throttled: {reason}." for reason in sorted(throttled))
    return reasons


def configuration(row: Configuration) -> str:
    """What runs a row: engine, precision and what is not one frame from one camera."""
    parts = [f"{row.engine} {row.precision}"]
    if row.device != "cpu":
        parts.append(row.device)
    if row.batch > 1:
        parts.append(f"batch {row.batch}")
    if row.cameras > 1:
        parts.append(f"{row.cameras} cameras")
    if row.decode:
        parts.append("from JPEG")
    return ", ".join(parts)


def network(row: Configuration) -> str:
    """The networks of a row: method, size, λ and whose weights."""
    steps = ", ".join(map(str, row.lambdas))
    return f"{row.method} {row.size}, {row.image_size} px" + (f", λ {steps}" if steps else "")


def by_network(rows: Sequence[Row]) -> list[tuple[str, list[Row]]]:
    """Rows under their networks, these in the order of the study, the fastest row first."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(network(row), []).append(row)
    return [(name, sorted(group, key=lambda row: -row.fps)) for name, group in groups.items()]


def share_of_roof(row: Row) -> str:
    """The share of the roof that a row reaches."""
    return "–" if row.share_of_roof is None else f"{row.share_of_roof:.0%}"


def paper_fps(row: Row) -> float | None:
    """What the paper reports for a row's method and λ at its own size."""
    for reported in (*paper.TABLE_3, *paper.TABLE_4, paper.JOURNAL):
        if reported.method != row.method:
            continue
        if reported is paper.JOURNAL or reported.lambdas == row.lambdas:
            return reported.fps
        if not reported.lambdas and row.method != "DiffusionAD":
            return reported.fps
    return None


def _studies(result: StudyResult) -> set[str]:
    return {name for row in result.rows for name in row.studies}


def _heading(result: StudyResult) -> Text:
    text = Text(result.device, style="bold")
    rates = [f"{name} {rate:.0f} GFLOP/s" for name, rate in _known(result.peak.gflop_per_s)]
    rates += [f"{name} copy {rate:.0f} GB/s" for name, rate in _known(result.peak.gbyte_per_s)]
    clock = result.sensors.after.cpu_mhz
    text.append(
        f"\nmeasured peaks: {', '.join(rates) or 'none'}"
        + (f"; CPU clock {clock:.0f} MHz" if clock else ""),
        style="not bold dim",
    )
    return text


def _known(rates: dict[str, float | None]) -> list[tuple[str, float]]:
    return [(name, rate) for name, rate in rates.items() if rate is not None]


def _rows(result: StudyResult) -> Table:
    """Every measured row, under the networks that it runs."""
    compared = bool(_studies(result) & {"table3", "table4"})
    table = Table(
        title="Measured: frame in hand → verdict",
        title_justify="left",
        caption=(f"paper: its frames/s; {paper.GPU}. " if compared else "")
        + "× eager: of PyTorch in FP32, as the authors run it. of roof: of the frames/s that the "
        "measured peaks allow.",
        caption_justify="left",
    )
    table.add_column("networks and what runs them")
    for heading in ("frames/s", "× eager", "p50 ms", "p99 ms", "of roof"):
        table.add_column(heading, justify="right")
    if compared:
        table.add_column("paper", justify="right")
    for name, group in by_network(result.rows):
        table.add_section()
        table.add_row(f"[bold]{name}[/bold]")
        for row in group:
            reported = paper_fps(row) if row.size == "paper" else None
            table.add_row(
                f"  {configuration(row)}" + (" °" if row.weights == UNTRAINED else ""),
                ("~" if row.unstable else "") + figure(row.fps),
                figure(row.times_eager),
                figure(row.latency_ms.p50),
                figure(row.latency_ms.p99),
                share_of_roof(row),
                *((figure(reported),) if compared else ()),
            )
    if any(row.weights == UNTRAINED for row in result.rows):
        table.caption = f"{table.caption} ° {UNTRAINED}."
    return table


def _stages(row: Row) -> Table:
    table = Table(
        title=f"Where the time goes: {configuration(row)}, {network(row)}",
        title_justify="left",
        caption=_roof_in_words(row),
        caption_justify="left",
    )
    table.add_column("stage")
    for heading in ("p50 ms", "p99 ms", "share", "GFLOP", "GFLOP/s"):
        table.add_column(heading, justify="right")
    for name, stage in row.stages.items():
        table.add_row(
            name,
            figure(stage.p50),
            figure(stage.p99),
            f"{stage.share:.0%}",
            figure(stage.gflop),
            figure(stage.gflop_per_s),
        )
    table.add_section()
    latency = row.latency_ms
    whole = (figure(latency.p50), figure(latency.p99), "100%", figure(row.gflop))
    table.add_row("frame → verdict", *whole, style="bold")
    return table


def _roof_in_words(row: Row) -> str | None:
    if row.roof_fps is None:
        return None
    return (
        f"Its roof at the measured peaks: {figure(row.arithmetic_fps)} frames/s by arithmetic, "
        f"{figure(row.memory_fps)} by memory; {share_of_roof(row)} reached."
    )


def _layers(profiles: Sequence[LayerProfile]) -> Group:
    """Layer groups of the bundle's networks on every runtime, and the slowest layers."""
    table = Table(
        title="Layers of one frame: milliseconds, share of all layers, share of the roof",
        title_justify="left",
    )
    table.add_column("group")
    table.add_column("GFLOP", justify="right")
    for profile in profiles:
        for heading in (f"{profile.engine} ms", "share", "of roof"):
            table.add_column(heading, justify="right")
    by_group = [{entry.group: entry for entry in profile.groups} for profile in profiles]
    for group in dict.fromkeys(name for groups in by_group for name in groups):
        entries = [groups.get(group) for groups in by_group]
        cells: list[str] = []
        for entry in entries:
            share = entry.share_of_roof if entry else None
            cells += [
                figure(entry.ms) if entry else "–",
                f"{entry.share:.0%}" if entry else "–",
                "–" if share is None else f"{share:.0%}",
            ]
        gflop = next(entry.gflop for entry in entries if entry)
        table.add_row(group, figure(gflop or None), *cells)
    lines = [
        f"slowest on {profile.engine}: "
        + ", ".join(f"{layer.name} {figure(layer.ms)} ms" for layer in profile.slowest[:4])
        for profile in profiles
    ]
    return Group(table, Text("\n".join(lines), style="dim"))


def _paper_rows() -> Table:
    table = Table(
        title="Beside the paper",
        title_justify="left",
        caption=f"Note: {paper.GPU}, and frames/s at other GFLOP do not compare.\n"
        "'--study table3' and '--study table4' measure these rows here.",
        caption_justify="left",
    )
    for heading in ("source", "method", "λ", "pixels"):
        table.add_column(heading)
    for heading in ("GFLOP", "frames/s"):
        table.add_column(heading, justify="right")
    for reported in paper.FPS_ROWS:
        table.add_row(
            reported.source,
            reported.method,
            ", ".join(map(str, reported.lambdas)) or "–",
            str(paper.IMAGE_SIZE),
            figure(reported.gflop),
            f"{reported.fps:.2f}",
        )
    return table


def _scaling(sweeps: Sequence[Sweep]) -> Table:
    table = Table(title="Scaling: median milliseconds a call", title_justify="left")
    for heading in ("varied", "points: at → ms", "line", "R²"):
        table.add_column(heading)
    for sweep in sweeps:
        points = "  ".join(f"{p.x:g} → {figure(p.ms)}" for p in sweep.points)
        line = "–"
        if sweep.slope_ms is not None:
            line = f"{sweep.intercept_ms:.3g} + {sweep.slope_ms:.3g} · x"
        r2 = "–" if sweep.r2 is None else f"{sweep.r2:.4f}"
        table.add_row(sweep.axis, points, line, r2)
        if sweep.reason:
            table.add_row("", f"[dim]no straight line: {sweep.reason}[/dim]")
    return table


def _not_measured(rows: Sequence[NotMeasured]) -> Table:
    table = Table(title="Not measured", title_justify="left")
    table.add_column("rows", ratio=3)
    table.add_column("reason", ratio=2)
    by_reason: dict[str, list[str]] = {}
    for row in rows:
        name = f"{network(row)}: {configuration(row)}"
        by_reason.setdefault(row.reason, []).append(name)
    for reason, names in by_reason.items():
        table.add_row("\n".join(names), reason)
    return table


def figure(value: float | None) -> str:
    """A number with three digits or more, or a dash for none."""
    if value is None:
        return "–"
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}" if value < 10 else f"{value:.1f}"
