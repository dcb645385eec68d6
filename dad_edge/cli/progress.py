"""Progress bars for people, on stderr; nothing where stderr is not a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dad_edge.machine.environment import follows
from dad_edge.progress import Progress


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """Show a bar that the yielded function moves.

    Args:
        description: what is under way.

    Yields:
        The callback that moves the bar; the note is shown behind the bar.
    """
    from rich import progress as rich_progress
    from rich.console import Console

    console = Console(stderr=True)
    columns = (
        rich_progress.TextColumn("{task.description}"),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.percentage:>3.0f} %"),
        rich_progress.TimeElapsedColumn(),
        rich_progress.TimeRemainingColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
    )
    hidden = not console.is_terminal or follows()
    with rich_progress.Progress(*columns, console=console, disable=hidden) as bar:
        task = bar.add_task(description, total=None, note="")

        def advance(done: float, total: float, note: str = "") -> None:
            bar.update(task, completed=done, total=total, note=note)

        yield advance
