"""All sinks of a line, kept in memory."""

from __future__ import annotations

from collections.abc import Sequence

from dad_edge.line.seams import Event, Judged, SinkState
from dad_edge.stream.frames import Unreadable


class Kept:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.frames: list[Judged] = []
        self.missing: list[tuple[str, Unreadable]] = []
        self.events: list[Event] = []
        self.closed = 0

    def write(self, judged: Judged) -> None:
        self.frames.append(judged)

    def skip(self, camera: str, missing: Unreadable) -> None:
        self.missing.append((camera, missing))

    def event(self, event: Event) -> None:
        self.events.append(event)

    def states(self) -> Sequence[SinkState]:
        return [SinkState("kept", 0, len(self.frames), 0, "")]

    def close(self) -> None:
        self.closed += 1

    def kinds(self) -> list[str]:
        """Kinds of the events, in order."""
        return [event.kind for event in self.events]
