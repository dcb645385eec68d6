from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest
from judged_frames import event, judged

from dad_edge.errors import StorageError
from dad_edge.line.records import RecordSink
from dad_edge.line.seams import Event, Judged, LineSink
from dad_edge.line.sinks import queue as queues
from dad_edge.line.sinks.queue import IMAGES_WAITING, QueuedSink


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.005)


class Kept(RecordSink):
    name = "kept"

    def __init__(self) -> None:
        self.records: list[dict[str, object]] = []
        self.fail = 0
        self.closed = False

    def take(self, record: dict[str, object]) -> None:
        if self.fail:
            self.fail -= 1
            raise StorageError("the disk is full.", "free it")
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


class Stuck(LineSink):
    name = "stuck"

    def __init__(self) -> None:
        self.go = threading.Event()
        self.frames: list[str] = []

    def write(self, judged: Judged) -> None:
        self.go.wait()
        self.frames.append(judged.id)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(queues, "LONGEST_WAIT_S", 0.05)


def test_records_arrive_in_order_and_once_although_calls_fail() -> None:
    sink, events = Kept(), list[Event]()
    queued = QueuedSink(sink, events.append)
    sink.fail = 3
    for number in range(1, 51):
        queued.write(judged(number))
    wait_for(lambda: len(sink.records) == 50)
    assert [record["index"] for record in sink.records] == list(range(1, 51))
    wait_for(lambda: queued.state().error == "")
    messages = [each.message for each in events]
    assert messages == ["sink kept fails: the disk is full.", "sink kept works again."]
    queued.close(time.monotonic() + 30)
    assert sink.closed
    assert (queued.state().written, queued.state().lost) == (50, 0)


def test_a_stuck_sink_blocks_nobody_and_what_it_loses_is_counted() -> None:
    sink, events = Stuck(), list[Event]()
    queued = QueuedSink(sink, events.append)
    for number in range(1, 101):
        queued.write(judged(number, score=0.9))
    state = queued.state()
    assert state.lost >= 100 - IMAGES_WAITING - 1
    assert state.waiting <= IMAGES_WAITING
    assert [each.message for each in events] == [
        "sink stuck is too slow; what finds its queue full is lost."
    ]
    sink.go.set()
    queued.close(time.monotonic() + 30)
    assert len(sink.frames) == 100 - queued.state().lost


def test_closing_ends_at_its_deadline_although_the_sink_is_stuck() -> None:
    sink = Stuck()
    queued = QueuedSink(sink, lambda _: None)
    queued.write(judged(1, score=0.9))
    started = time.monotonic()
    queued.close(started + 0.1)
    assert time.monotonic() - started < 20
    sink.go.set()


def test_closing_writes_what_waits_and_repeats_no_failed_call() -> None:
    sink = Kept()
    queued = QueuedSink(sink, lambda _: None)
    queued.begin_close()
    queued.close(time.monotonic() + 30)
    sink, lost = Kept(), Kept()
    for each, fail in ((sink, 0), (lost, 10**9)):
        each.fail = fail
        queued = QueuedSink(each, lambda _: None)
        for number in range(20):
            queued.write(judged(number))
        queued.close(time.monotonic() + 30)
        assert each.closed
        assert len(each.records) == (0 if fail else 20)
        assert queued.state().lost == (20 if fail else 0)


def test_a_sink_with_a_mistake_goes_on() -> None:
    class Wrong(Kept):
        def take(self, record: dict[str, object]) -> None:
            if record["record"] == "event":
                raise ZeroDivisionError("by zero")
            super().take(record)

    sink, events = Wrong(), list[Event]()
    queued = QueuedSink(sink, events.append)
    queued.event(event())
    wait_for(lambda: queued.state().lost == 1)
    queued.write(judged(2))
    wait_for(lambda: len(sink.records) == 1)
    assert events[0].message == "sink kept fails: ZeroDivisionError: by zero"
    queued.close(time.monotonic() + 30)


def test_frames_that_a_sink_does_not_want_take_no_place() -> None:
    class Rejected(Stuck):
        def wants(self, judged: Judged) -> bool:
            return judged.rejected

    sink = Rejected()
    queued = QueuedSink(sink, lambda _: None)
    for number in range(100):
        queued.write(judged(number, score=0.9 if number == 50 else 0.1))
    sink.go.set()
    queued.close(time.monotonic() + 30)
    assert len(sink.frames) == 1
    assert queued.state().lost == 0
