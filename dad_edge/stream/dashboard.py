"""The live table of a run in the terminal; plain lines where stderr is not a terminal."""

from __future__ import annotations

import time
from collections import deque

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dad_edge.scores import score_text, threshold_text
from dad_edge.stream.frames import Unreadable
from dad_edge.stream.results import Result, Sink, Summary

_ROWS = 10
_REDRAWS_A_SECOND = 8
_PLAIN_PAUSE_S = 5.0
_STYLES = {"good": "green", "defect": "bold red", "invalid": "bold magenta", "unreadable": "yellow"}


class TerminalSink(Sink):
    """Shows the latest verdicts, the counts and the rate on stderr."""

    def __init__(self, total: int | None, threshold: float, console: Console | None = None) -> None:
        """
        Args:
            total: number of frames to come, where it is known.
            threshold: image threshold.
            console: where to show it; stderr if None.
        """
        self._total = total
        self._threshold = threshold
        self._console = console or Console(stderr=True)
        self._latest: deque[tuple[str, ...]] = deque(maxlen=_ROWS)
        self._counts = dict.fromkeys(_STYLES, 0)
        self._started = time.monotonic()
        self._said = self._started
        self._live: Live | None = None
        if self._console.is_terminal:
            self._live = Live(
                console=self._console,
                refresh_per_second=_REDRAWS_A_SECOND,
                get_renderable=self._picture,
                redirect_stdout=False,
            )
            self._live.start()

    def write(self, result: Result) -> None:
        inspection, frame = result.inspection, result.frame
        self._add(
            inspection.verdict,
            frame.name,
            score_text(inspection.score, self._threshold, 4),
            f"{result.latency_ms:.1f} ms",
            inspection.reason or (frame.kind or "").replace("_", " "),
        )

    def skip(self, missing: Unreadable) -> None:
        self._add("unreadable", missing.name, "", "", missing.error.message)

    def close(self, summary: Summary) -> None:
        if self._live is not None:
            self._live.stop()
        for line in summary_lines(summary):
            self._console.print(line, highlight=False, soft_wrap=True)

    def _add(self, verdict: str, name: str, score: str, latency: str, note: str) -> None:
        self._counts[verdict] += 1
        name, note = on_one_line(name), on_one_line(note)
        self._latest.append((verdict, name, score, latency, note))
        if self._live is not None:
            return
        now = time.monotonic()
        if verdict != "good":
            line = f"{verdict}: {name}"
            line += f", score {score}" if verdict == "defect" else f": {note}"
            self._console.print(line, highlight=False, markup=False, soft_wrap=True)
        if now - self._said >= _PLAIN_PAUSE_S:
            self._said = now
            self._console.print(self._status().plain, highlight=False, soft_wrap=True)

    def _status(self) -> Text:
        done = sum(self._counts.values())
        rate = done / max(time.monotonic() - self._started, 1e-6)
        text = Text(f"{done}/{self._total}" if self._total else f"{done}")
        text.append(f" frames, {rate:.1f} frames/s")
        for verdict, count in self._counts.items():
            if count or verdict in ("good", "defect"):
                text.append(", ").append(f"{count} {verdict}", style=_STYLES[verdict])
        return text

    def _picture(self) -> Group:
        table = Table(box=None, pad_edge=False, header_style="dim")
        table.add_column("verdict", width=10)
        table.add_column("frame", ratio=2, no_wrap=True)
        table.add_column(
            f"score (reject > {threshold_text(self._threshold)})", justify="right", no_wrap=True
        )
        table.add_column("latency", justify="right", no_wrap=True)
        noted = any(row[4] for row in self._latest)
        table.add_column("note" if noted else "", ratio=1, no_wrap=True)
        for verdict, *cells in list(self._latest):
            table.add_row(Text(verdict, _STYLES[verdict]), *(Text(cell) for cell in cells))
        foot = Table.grid()
        if self._total:
            done = sum(self._counts.values())
            foot.add_row(ProgressBar(total=self._total, completed=done, width=60))
        foot.add_row(self._status())
        return Group(table, foot)


def on_one_line(text: str) -> str:
    """The text without characters that move the cursor or change the terminal, which names of
    files may hold."""
    return "".join(
        char if char == " " or char.isprintable() else char.encode("unicode_escape").decode()
        for char in text
    )


def summary_lines(summary: Summary) -> list[str]:
    """What a run did, in words."""
    counts = ", ".join(f"{count} {name}" for name, count in summary.verdicts.items() if count)
    lines = [f"{summary.frames} frames inspected: {counts or 'none'}."]
    if summary.latency_ms:
        lines.append(
            f"{summary.fps:.1f} frames/s end to end; latency p50 {summary.latency_ms['p50']:.1f} "
            f"ms, p95 {summary.latency_ms['p95']:.1f} ms from frame in hand to verdict."
        )
    if summary.dropped:
        lines.append(f"Frames dropped for newer ones: {summary.dropped}.")
    if summary.unreadable:
        lines.append(f"Pictures that could not be read: {summary.unreadable}.")
    return lines
