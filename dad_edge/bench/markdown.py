"""A bench result as Markdown, for READMEs."""

from __future__ import annotations

from dad_edge.bench import paper
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.result import StudyResult
from dad_edge.bench.table import (
    by_network,
    configuration,
    figure,
    network,
    paper_fps,
    share_of_roof,
    warnings,
)


def bench_markdown(result: StudyResult) -> str:
    """The measured rows, the scaling study, and what was not measured and why."""
    environment = result.environment
    packages = environment["packages"]
    lines = [
        f"# Measured on {result.device}",
        "",
        f"{result.date[:10]}, study `{result.study}`, commit {environment['commit'] or '–'}, "
        f"dad-edge {packages.get('dad-edge', '–')}. One frame in hand → verdict; × eager: of "
        "PyTorch in FP32, as the authors run it; roof: frames/s at the device's measured peaks.",
        "",
        "| networks | runs on | frames/s | × eager | p50 ms | p99 ms | of roof | paper |",
        "|---|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, group in by_network(result.rows):
        for row in group:
            reported = paper_fps(row) if row.size == "paper" else None
            cells = (
                name + (" °" if row.weights == UNTRAINED else ""),
                configuration(row),
                ("~" if row.unstable else "") + figure(row.fps),
                figure(row.times_eager),
                figure(row.latency_ms.p50),
                figure(row.latency_ms.p99),
                share_of_roof(row),
                figure(reported),
            )
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", f"° {UNTRAINED}. paper: frames/s at its size; {paper.GPU}."]
    if result.scaling:
        lines += ["", "| varied | median ms a call | R² |", "|---|---|--:|"]
        for sweep in result.scaling:
            points = ", ".join(f"{p.x:g}: {figure(p.ms)}" for p in sweep.points)
            reason = f"; no straight line: {sweep.reason}" if sweep.reason else ""
            r2 = "–" if sweep.r2 is None else f"{sweep.r2:.4f}"
            lines.append(f"| {sweep.axis} | {points}{reason} | {r2} |")
    if result.not_measured:
        lines += ["", "Not measured:", ""]
        lines += [
            f"- {network(row)}, {configuration(row)}: {row.reason}" for row in result.not_measured
        ]
    if reasons := warnings(result):
        lines += ["", *(f"- {warning}" for warning in reasons)]
    return "\n".join(lines) + "\n"
