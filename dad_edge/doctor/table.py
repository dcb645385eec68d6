"""The diagnosis of this machine in the terminal."""

from __future__ import annotations

from rich.markup import escape
from rich.table import Table

from dad_edge.doctor.checks import Diagnosis


def doctor_table(diagnosis: Diagnosis) -> Table:
    """The diagnosis for people, readable at 100 columns."""
    signs = {"ok": "[green]ok[/]", "not here": "[dim]not here[/]", "problem": "[red]problem[/]"}
    verdict = "frames can be inspected" if diagnosis.exit_code == 0 else "no frame can be inspected"
    table = Table(
        title=f"{escape(str(diagnosis.environment['device']))}: {verdict}", title_justify="left"
    )
    for heading in ("what", "state", "detail"):
        table.add_column(heading, no_wrap=heading != "detail")
    group = ""
    for check in diagnosis.checks:
        if check.group != group:
            table.add_section()
            group = check.group
        detail = escape(check.detail)
        if check.next_step:
            detail += f"\n[cyan]next: {escape(check.next_step)}[/]"
        table.add_row(escape(check.name), signs[check.state], detail)
    return table
