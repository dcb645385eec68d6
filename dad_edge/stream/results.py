"""What comes out of a run: a result for each frame, a summary, and the sinks that take them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field
from typing import Any

from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame, Unreadable


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """One inspected frame."""

    frame: Frame
    inspection: Inspection
    latency_ms: float
    """From frame in hand to verdict."""
    waited_ms: float
    """From frame read to frame in hand."""


@dataclass(slots=True)
class Summary:
    """What a run did, up to its end or to the error that ended it."""

    frames: int = 0
    """Frames with a verdict."""
    verdicts: dict[str, int] = field(default_factory=dict)
    """Frames of each verdict."""
    unreadable: int = 0
    """Pictures that could not be read."""
    dropped: int = 0
    """Frames of a live source that were dropped for newer ones."""
    smaller_than_model: int = 0
    """Frames that had to be enlarged for the model."""
    seconds: float = 0.0
    """Wall time from the first read to the last result written."""
    fps: float = 0.0
    """Frames per second, `frames / seconds`, end to end with reading and writing."""
    latency_ms: dict[str, float] = field(default_factory=dict)
    """p50 and p95 of the latest frames, from frame in hand to verdict."""
    stage_ms: dict[str, float] = field(default_factory=dict)
    """Median of each step over the latest frames."""

    def as_record(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


class Sink(ABC):
    """Takes the results of a run; all calls come from one thread."""

    wants_stop = False
    """Set by a sink to end the run, as when its window is closed."""

    @abstractmethod
    def write(self, result: Result) -> None:
        """Take the next result."""

    def skip(self, missing: Unreadable) -> None:  # noqa: B027 - most sinks have nothing to do
        """Take note of a picture that could not be read."""

    def close(self, summary: Summary) -> None:  # noqa: B027 - most sinks have nothing to do
        """Finish; called once, also after an error."""
