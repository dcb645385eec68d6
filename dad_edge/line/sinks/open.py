"""All sinks of a line, opened from its settings, behind one face."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from dad_edge.errors import require
from dad_edge.line.seams import Event, Judged, LineSink, SinkState
from dad_edge.line.settings import SinksSettings
from dad_edge.line.sinks.flagged import FOLDER as FLAGGED
from dad_edge.line.sinks.flagged import FlaggedRing
from dad_edge.line.sinks.jsonl import JsonLines
from dad_edge.line.sinks.queue import QueuedSink
from dad_edge.line.sinks.store import DATABASE, StoreSink
from dad_edge.line.sinks.video import FOLDER as VIDEO
from dad_edge.line.sinks.video import VideoSegments
from dad_edge.stream.frames import Unreadable

RECORDS = (JsonLines.name, StoreSink.name)
"""Sinks that take every frame: one record each."""
CLOSE_S = 1.2
"""What all sinks together get to write what waits when the line ends."""


class Sinks:
    """Every sink in its own queue; nothing here waits for one of them."""

    def __init__(
        self,
        sinks: Sequence[LineSink],
        on_event: Callable[[Event], None],
        only: Mapping[str, Collection[str]] | None = None,
    ) -> None:
        """
        Args:
            sinks: are closed by this one.
            on_event: told of sinks that fail and recover.
            only: camera → names of the sinks that take its frames, beside those of `RECORDS`; all
                take those of other cameras.
        """
        self._queues = [QueuedSink(sink, on_event) for sink in sinks]
        self._of_camera = {
            camera: [q for q in self._queues if q.sink.name in (*RECORDS, *names)]
            for camera, names in (only or {}).items()
        }

    def write(self, judged: Judged) -> None:
        """Hand over a judged frame."""
        for each in self._of_camera.get(judged.camera, self._queues):
            each.write(judged)

    def skip(self, camera: str, missing: Unreadable) -> None:
        """Hand over that a picture could not be read."""
        for each in self._of_camera.get(camera, self._queues):
            each.skip(camera, missing)

    def event(self, event: Event) -> None:
        """Hand over an event."""
        for each in self._queues:
            each.event(event)

    def states(self) -> list[SinkState]:
        """How they do."""
        return [each.state() for each in self._queues]

    def close(self) -> None:
        """Write what waits, and end; takes `CLOSE_S` at most."""
        deadline = time.monotonic() + CLOSE_S
        for each in self._queues:
            each.begin_close()
        for each in self._queues:
            each.close(deadline)


def open_sinks(
    settings: SinksSettings,
    folder: Path,
    line: str,
    on_event: Callable[[Event], None],
    only: Mapping[str, Collection[str]] | None = None,
) -> Sinks:
    """Open the sinks that the settings name.

    Args:
        settings: of the sinks.
        folder: of the results.
        line: name of the line.
        on_event: told of sinks that fail and recover.
        only: as `Sinks` takes it.

    Raises:
        StorageError: a file cannot be opened.
        UsageError: a secret is not where the settings say.
        MissingDependency: a package of a sink is not installed.
    """
    opened: list[LineSink] = []
    try:
        opened.append(JsonLines(folder, settings.jsonl))
        opened.append(StoreSink(folder / DATABASE, settings.store))
        opened.append(FlaggedRing(folder / FLAGGED, settings.flagged))
        if settings.video is not None:
            opened.append(VideoSegments(folder / VIDEO, settings.video))
        if settings.mqtt is not None:
            require("paho.mqtt.client", "line", "send results to a broker")
            from dad_edge.line.sinks.mqtt import MqttSink

            opened.append(MqttSink(line, settings.mqtt))
        if settings.webhook is not None:
            require("httpx", "line", "send results to a server")
            from dad_edge.line.sinks.webhook import FOLDER as SPOOL
            from dad_edge.line.sinks.webhook import WebhookSink

            opened.append(WebhookSink(folder / SPOOL, settings.webhook))
        if settings.pulse is not None:
            from dad_edge.line.sinks.pulse import RejectPulse

            opened.append(RejectPulse(settings.pulse))
    except BaseException:
        for sink in opened:
            sink.close()
        raise
    return Sinks(opened, on_event, only)
