"""What the parts of an unattended line hand to each other: judged frames, events, states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol

from dad_edge.runtime.seams import Verdict
from dad_edge.stream.frames import Unreadable
from dad_edge.stream.results import Result

EventKind = Literal[
    "started",
    "stopped",
    "online",
    "offline",
    "engine",
    "drift",
    "threshold",
    "paused",
    "resumed",
    "sink",
    "clock",
]
"""What can happen to a line beside its frames."""
WHOLE_LINE = ""
"""Camera of an event that is about no single one."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to a line, for every sink and for the page."""

    kind: EventKind
    camera: str
    """Name of the camera, or `WHOLE_LINE`."""
    time: datetime
    """UTC."""
    message: str
    """One sentence for a person, without secrets."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Plain values for JSON."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """One inspected frame of one camera with the line's verdict."""

    id: str
    """Unique over all runs of the line, ascending within a run: `<run>-<number>`."""
    camera: str
    result: Result
    """Frame, inspection and timings; their images are not to be changed."""
    verdict: Verdict
    """Of the frame, at the threshold that held then."""
    reason: str | None
    """Why it is `invalid`."""
    rejected: bool
    """Whether the part is to be rejected, after k of n and hysteresis."""
    threshold: float
    engine: str
    """What computed it, in words."""


class LineSink(ABC):
    """Takes what a line has to say; all calls come from one thread, which is the sink's own."""

    name = ""
    """As events, states and metrics call it."""

    def wants(self, judged: Judged) -> bool:
        """Whether it takes this frame at all; called by the thread that judges, so quick."""
        return True

    @abstractmethod
    def write(self, judged: Judged) -> None:
        """Take a judged frame.

        Raises:
            StorageError: it cannot be stored now; the call may be repeated.
        """

    def skip(self, camera: str, missing: Unreadable) -> None:  # noqa: B027
        """Take note of a picture that could not be read."""

    def event(self, event: Event) -> None:  # noqa: B027
        """Take note of an event."""

    def flush(self) -> None:  # noqa: B027
        """Called when nothing waits; a good moment to write to the disk what was gathered."""

    def close(self) -> None:  # noqa: B027
        """Finish; called once, also after an error."""


@dataclass(frozen=True, slots=True)
class SinkState:
    """How a sink does."""

    name: str
    waiting: int
    """Items in its queue."""
    written: int
    lost: int
    """Items that found the queue full."""
    error: str
    """Why the last item could not be written; empty if it could."""


@dataclass(frozen=True, slots=True)
class CameraState:
    """How a camera does."""

    name: str
    source: str
    """As named by the user, without what is secret in it."""
    bundle: str
    """Name of its bundle."""
    class_name: str
    """What it inspects."""
    engine: str
    online: bool
    paused: bool
    threshold: float
    score_range: tuple[float, float]
    """Of a chart of scores: the scale's ends."""
    frames: int
    """Inspected since the start of the run."""
    dropped: int
    unreadable: int
    verdicts: Mapping[str, int]
    """Frames of each verdict since the start of the run."""
    fps: float
    """Inspected frames a second, over the last seconds."""
    latency_ms: float
    """Median from frame read to verdict, over the last frames."""
    last_frame: datetime | None
    drift: str
    """What the drift alarm says; empty where it is silent."""
    error: str
    """Why it is offline or its engine failed; empty if all is well."""


class LineControl(Protocol):
    """What the page and the machine interface may see and do of a running line.

    Every method may be called from any thread and returns at once, unless it says otherwise.
    """

    @property
    def name(self) -> str:
        """Of the line."""
        ...

    @property
    def run(self) -> str:
        """Of this run: the part of a judged frame's id before the dash."""
        ...

    def cameras(self) -> Sequence[CameraState]:
        """States of all cameras, in the order of the configuration."""
        ...

    def sinks(self) -> Sequence[SinkState]:
        """States of all sinks."""
        ...

    def events(self) -> Sequence[Event]:
        """The latest events, oldest first."""
        ...

    def latest(self, camera: str) -> Judged | None:
        """The frame judged last; None before the first, or if there is no such camera."""
        ...

    def next(self, camera: str, after: str, timeout_s: float) -> Judged | None:
        """Wait for a frame other than that of id `after`; None if none comes in time."""
        ...

    def set_threshold(self, camera: str, value: float) -> float:
        """Write the camera's image threshold, for it and all cameras of its bundle.

        Returns:
            The threshold before.

        Raises:
            UsageError: there is no such camera, or the value is no threshold.
            StorageError: the file cannot be written; the threshold before stays.
        """
        ...

    def inspect(self, camera: str, content: bytes, timeout_s: float) -> Judged:
        """Inspect a posted picture; waits for its verdict.

        Args:
            camera: that it is for; if empty, the only one whose pictures are posted.
            content: of a picture file, as `read_frame` takes it.
            timeout_s: longest wait; a verdict that comes later is recorded all the same.

        Raises:
            UsageError: there is no such camera, or its pictures are not posted.
            DataError: the picture cannot be read.
            DeviceError: the camera is paused, too many pictures wait, or no verdict came in time.
        """
        ...

    def pause(self, camera: str, paused: bool) -> None:
        """Stop or go on inspecting.

        Raises:
            UsageError: there is no such camera.
        """
        ...
