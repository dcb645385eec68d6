"""`dad-edge demo`: inspect the built-in demo line, whose truth is known, and show the results."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from dad_edge.bundle import Bundle
from dad_edge.config import GOOD
from dad_edge.data.demo import KINDS
from dad_edge.files import sole_writer
from dad_edge.image.pictures import (
    COLUMNS,
    InspectedImage,
    contact_sheet,
    inspection_row,
    write_picture,
)
from dad_edge.image.preprocess import to_frame
from dad_edge.machine.signals import StopRequest
from dad_edge.runtime.inspector import choose_engine
from dad_edge.runtime.opening import open_choice
from dad_edge.stream.annotate import Annotator
from dad_edge.stream.command import RESULTS, VIDEO, announce, run_header
from dad_edge.stream.dashboard import TerminalSink
from dad_edge.stream.loop import run_stream
from dad_edge.stream.records import JsonLinesSink
from dad_edge.stream.results import Result, Sink, Summary
from dad_edge.stream.sinks import VideoSink
from dad_edge.stream.sources import demo_source

SHEET = "contact-sheet.png"

_DEFECT_RATE = 0.4
_SHEET_ROWS = 12


@dataclass(frozen=True, slots=True)
class DemoResult:
    """The result of a run over the demo line."""

    summary: Summary
    caught: dict[str, tuple[int, int]]
    """Kind → parts rejected, parts in all."""
    inspection_fps: float
    """Frames a second of the inspection alone, from its median latency."""
    files: dict[str, str]
    """Files that were written: content → path."""

    def as_record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return {
            "summary": self.summary.as_record(),
            "caught": {k: {"rejected": n[0], "parts": n[1]} for k, n in self.caught.items()},
            "inspection_fps": round(self.inspection_fps, 2),
            "files": self.files,
        }


class ContactSheetSink(Sink):
    """Keeps the first parts of every kind and lays them out in one picture at the end."""

    def __init__(
        self, target: Path, threshold: float, value_range: tuple[float, float], subtitle: str
    ) -> None:
        self._target = target
        self._threshold = threshold
        self._value_range = value_range
        self._subtitle = subtitle
        self._kept: dict[str, list[InspectedImage]] = {kind: [] for kind in (GOOD, *KINDS)}

    def write(self, result: Result) -> None:
        frame, inspection = result.frame, result.inspection
        kind = frame.kind or GOOD
        if len(self._kept[kind]) < 2:
            restored = to_frame(inspection.restored, self._value_range)
            self._kept[kind].append(
                InspectedImage(
                    frame.name,
                    kind,
                    inspection.score,
                    frame.image,
                    restored,
                    inspection.heat.copy(),
                    frame.mask,
                )
            )

    def close(self, summary: Summary) -> None:
        chosen = self._chosen()
        if not chosen:
            return
        rows = [inspection_row(image, self._threshold) for image in chosen]
        sheet = contact_sheet(rows, COLUMNS, "Demo line", self._subtitle)
        write_picture(self._target, sheet)

    def _chosen(self) -> list[InspectedImage]:
        """The first part of every kind, then second ones, a dozen at most, in kind order."""
        ranked = [images[n] for n in range(2) for images in self._kept.values() if n < len(images)]
        order = list(self._kept)
        return sorted(ranked[:_SHEET_ROWS], key=lambda image: order.index(image.kind))


class TruthSink(Sink):
    """Counts the rejected parts of every kind."""

    def __init__(self) -> None:
        self._parts: Counter[str] = Counter()
        self._rejected: Counter[str] = Counter()

    def write(self, result: Result) -> None:
        kind = result.frame.kind or GOOD
        self._parts[kind] += 1
        self._rejected[kind] += result.inspection.verdict != "good"

    def caught(self) -> dict[str, tuple[int, int]]:
        """Kind → parts rejected, parts in all."""
        kinds = [kind for kind in (GOOD, *KINDS) if self._parts[kind]]
        return {kind: (self._rejected[kind], self._parts[kind]) for kind in kinds}


def run_demo(bundle: Bundle, out: Path, parts: int = 60) -> DemoResult:
    """Inspect parts of the demo line; write the video, contact sheet and log into `out`.

    Args:
        bundle: a bundle trained on the demo product.
        out: folder; its files of an earlier run are replaced.
        parts: number of parts.

    Raises:
        StorageError: `out` cannot be written, or another run writes there.
        UsageError: `parts` is below 1.
        Interrupted: a signal; what was inspected by then is written.
    """
    source = demo_source(parts, defect_rate=_DEFECT_RATE)
    choice = choose_engine(bundle)
    with sole_writer(out), open_choice(choice) as inspector, StopRequest() as stop:
        announce(choice, inspector)
        files = {
            "video": out / VIDEO,
            "contact sheet": out / SHEET,
            "log": out / RESULTS,
        }
        header = run_header(choice, inspector, source, seed=0, fresh_noise=False)
        truth = TruthSink()
        sinks = [
            JsonLinesSink.create(files["log"], header, inspector.threshold, replace=True),
            VideoSink(
                files["video"], source, Annotator(inspector.threshold, choice.pixel_threshold)
            ),
            ContactSheetSink(
                files["contact sheet"],
                inspector.threshold,
                bundle.model.value_range,
                f"bundle '{bundle.manifest.class_name}' on {inspector.backend}",
            ),
            truth,
            TerminalSink(parts, inspector.threshold),
        ]
        summary = run_stream(source, inspector, sinks, stop=stop)
    return DemoResult(
        summary,
        truth.caught(),
        1e3 / summary.latency_ms["p50"],
        {content: str(path) for content, path in files.items()},
    )


def show(result: DemoResult) -> None:
    """Print what the demo found, how fast, and where its files are, on stderr."""
    console = Console(stderr=True, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading, justify in (("truth", "left"), ("parts", "right"), ("accepted", "right")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    table.add_column("rejected", justify="right")
    table.add_column("correct", justify="right")
    for kind, (rejected, parts) in result.caught.items():
        correct = parts - rejected if kind == GOOD else rejected
        cells = (parts, parts - rejected, rejected, f"{correct / parts:.0%}")
        table.add_row(kind.replace("_", " "), *map(str, cells))
    console.print(table)
    latency = result.summary.latency_ms
    console.print(
        f"speed: {result.inspection_fps:.1f} frames/s of inspection (median {latency['p50']:.1f} "
        f"ms); {result.summary.fps:.1f} frames/s with drawing the parts and writing the video.",
        soft_wrap=True,
    )
    for content, path in result.files.items():
        console.print(f"{content}: {path}", soft_wrap=True)
