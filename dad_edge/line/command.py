"""`dad-edge stream` with many cameras: from `line.toml` to the end of the run."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import Protocol

from dad_edge.errors import DataError
from dad_edge.files import sole_writer
from dad_edge.line.config import LineConfig
from dad_edge.line.runner import Line, LineSummary
from dad_edge.line.seams import Event
from dad_edge.line.sinks.open import Sinks, open_sinks
from dad_edge.machine.signals import StopRequest
from dad_edge.stream.sources import needs_page

_log = logging.getLogger(__name__)


class Page(Protocol):
    """A page that shows a line."""

    url: str
    """Where a browser finds it."""

    def close(self) -> None:
        """Serve no more."""
        ...


OpenPage = Callable[[Line], Page]


def run_line(config: LineConfig, open_page: OpenPage | None = None) -> LineSummary:
    """Inspect all cameras of a line until their sources have ended or a signal comes.

    Args:
        config: of the line.
        open_page: opens the page that shows it; none if None.

    Raises:
        UsageError: pictures are to be posted, and there is no page to take them.
        DataError: a source broke off, and all others have ended.
        StorageError: another run writes into the line's folder, or it cannot be written.
        and what `Line` raises.
    """
    if open_page is None and any(camera.is_posted for camera in config.cameras.values()):
        raise needs_page()
    with ExitStack() as held:
        folder = config.folder_path
        held.enter_context(sole_writer(folder))
        line = Line(config)
        stop = held.enter_context(StopRequest())

        def opened(on_event: Callable[[Event], None]) -> Sinks:
            only = config.sinks_of_cameras
            sinks = open_sinks(config.sinks, folder, config.name, on_event, only)
            if open_page is not None:
                page = held.enter_context(closing(open_page(line)))
                _log.info("page: %s", page.url)
            return sinks

        summary = line.work(opened, stop)
    _log.info("%s; results in %s", in_words(summary), folder)
    if summary.errors and not stop.requested:
        name, error = next(iter(summary.errors.items()))
        said, _, step = " ".join(error.split()).partition(" next: ")
        raise DataError(
            f"{len(summary.errors)} of {len(summary.cameras)} sources broke off; {name}: {said}",
            f"{step or 'correct the source and run it again'}; "
            "the results are complete up to there",
        )
    return summary


def in_words(summary: LineSummary) -> str:
    """The outcome for a person."""
    counts = [
        f"{name} {state.frames} frames, {state.verdicts['defect']} defects"
        + (f", {state.verdicts['invalid']} invalid" if state.verdicts["invalid"] else "")
        + (f", {state.unreadable} unreadable" if state.unreadable else "")
        + (f", {state.dropped} dropped" if state.dropped else "")
        for name, state in summary.cameras.items()
    ]
    return f"inspected for {summary.seconds:.1f} s: {'; '.join(counts)}"
