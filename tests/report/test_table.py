"""The tables for the terminal fit 80 columns and show names as they are."""

import io
from dataclasses import replace

from rich.console import Console

from dad_edge.report.metrics import kind_table
from dad_edge.report.results import Report
from dad_edge.report.table import report_tables
from tests.report.test_page import make_report


def shown(report: Report) -> str:
    console = Console(width=80, file=io.StringIO())
    console.print(report_tables(report))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= 80
    return " ".join(" ".join(lines).split())


def test_figures_are_per_cent_or_say_why_they_are_not_defined():
    words = shown(make_report())
    for expected in (
        "│ Image AUROC │ 75.00 % │",
        "│ Pixel AUROC │ 97.12 % │",
        "│ PRO │ not defined: no marked defects │",
        "│ bent_pin │ 2 │ 75.00 % │ 0.5750 │ 1 │ 1 │",
        "│ good │ 2 │ │ 0.3550 │ 1 │ 1 │",
        "4 images in 1.5 s, 2.7 images/s",
    ):
        assert expected in words


def test_kinds_without_good_parts_say_why_they_have_no_figure():
    words = shown(make_report(kinds=kind_table(["dent"], [0.9], 0.5)))
    assert "not defined: no" in words
    assert "good images" in words


def test_names_with_markup_are_shown_as_they_are():
    kinds = kind_table(["[red]dent[/]", "good"], [0.9, 0.1], 0.5)
    words = shown(make_report(title="plates [/old]", kinds=kinds))
    assert "plates [/old]" in words
    assert "[red]dent[/]" in words


def test_defects_marked_nowhere_are_counted():
    report = make_report()
    data = replace(report.context.data, defective_without_mask=2)
    words = shown(replace(report, context=replace(report.context, data=data)))
    assert "Pixel figures leave out 2 defective images without a mask." in words
