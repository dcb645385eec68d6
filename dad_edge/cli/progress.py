"""Progress bars for people, on stderr; nothing where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dad_edge.machine.environment import follows

Report = Callable[[float, float], None]
"""Called with what is done and what there is to do, in any unit."""


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[..., None]]:
    """A bar that the yielded function moves.

    Args:
        description: what is under way.

    Yields:
        ``report(done, total, note="")``; `note` is shown behind the bar.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f} %"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal or follows()) as bar:
        task = bar.add_task(description, total=None, note="")

        def report(done: float, total: float, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield report
