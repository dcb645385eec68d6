from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest

from dad_edge.errors import DataError
from dad_edge.line.reader import Reader
from dad_edge.line.seams import EventKind
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable

PATIENCE_S = 60.0
GONE = DataError("the cable is out.", "plug it in")


class Taken:
    """Where a reader hands its frames."""

    def __init__(self, most: int = 1000) -> None:
        self.frames: list[Frame] = []
        self.skipped: list[Unreadable] = []
        self.events: list[tuple[EventKind, str, dict[str, Any]]] = []
        self._most = most

    def frame(self, frame: Frame, live: bool) -> bool:
        self.frames.append(frame)
        return len(self.frames) < self._most

    def missing(self, missing: Unreadable) -> None:
        self.skipped.append(missing)

    def happened(self, kind: EventKind, message: str, **details: Any) -> None:
        self.events.append((kind, message, details))


def frame(index: int) -> Frame:
    image = np.zeros((2, 2, 3), np.uint8)
    return Frame(image, f"{index}", index, datetime.now(timezone.utc))


def reader_of(
    source: str | int, runs: list[list[Frame | Unreadable | Exception]], taken: Taken
) -> Reader:
    left = iter(runs)

    def frames(run: list[Frame | Unreadable | Exception]) -> Frames:
        for item in run:
            if isinstance(item, Exception):
                raise item
            yield item

    def opened() -> Source:
        run = next(left, None)
        if run is None:
            raise GONE
        return Source("its name", frames(run), live=True)

    return Reader("cam", source, opened, taken)


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dad_edge.stream.watch.FIRST_S", 0.001)
    monkeypatch.setattr("dad_edge.stream.watch.LONGEST_S", 0.002)


def test_a_file_is_read_once_and_ends() -> None:
    taken = Taken()
    damaged = Unreadable("1", 1, datetime.now(timezone.utc), GONE)
    reader = reader_of("a.mp4", [[frame(0), damaged, frame(2)]], taken)
    assert reader.source == "a.mp4"
    reader.start()
    wait(lambda: reader.ended)
    assert [each.index for each in taken.frames] == [0, 2]
    assert [each.index for each in taken.skipped] == [1]
    assert taken.events == [
        ("online", "its name is read.", {}),
        ("offline", "its name has ended.", {"ended": True}),
    ]
    assert (reader.online, reader.error, reader.source) == (False, "", "its name")


def test_a_file_that_is_not_there_is_not_waited_for() -> None:
    taken = Taken()
    reader = reader_of("a.mp4", [], taken)
    reader.start()
    wait(lambda: reader.ended)
    assert reader.error == "the cable is out. next: plug it in"
    assert [kind for kind, _, _ in taken.events] == ["offline"]


def test_a_stream_is_opened_again_and_an_outage_is_told_of_once() -> None:
    taken = Taken()
    runs = [[frame(0), GONE], [GONE], [], [ValueError("driver")], [frame(0), frame(1), GONE]]
    reader = reader_of("rtsp://me:secret@host/x", runs, taken)
    assert "secret" not in reader.source
    reader.start()
    wait(lambda: len(taken.events) == 4)
    assert [each.index for each in taken.frames] == [0, 1, 2], "positions go on"
    kinds = [kind for kind, _, _ in taken.events]
    assert kinds == ["online", "offline", "online", "offline"]
    assert taken.events[1][2] == {"ended": False}
    assert not reader.ended
    reader.request_stop()
    reader.join(PATIENCE_S)
    assert reader.ended
    assert len(taken.events) == 4


def test_a_reader_ends_where_no_more_are_wanted() -> None:
    taken = Taken(most=2)
    closed = threading.Event()

    def frames() -> Frames:
        try:
            for index in itertools.count():
                yield frame(index)
        finally:
            closed.set()

    reader = Reader("cam", "a.mp4", lambda: Source("x", frames()), taken)
    reader.start()
    wait(lambda: reader.ended)
    assert len(taken.frames) == 2
    assert closed.is_set()
