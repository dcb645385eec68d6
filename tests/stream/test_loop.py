from __future__ import annotations

import errno
import signal
import threading
from datetime import datetime, timezone

import numpy as np
import pytest

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError, Interrupted, StorageError, writing
from dad_edge.machine.signals import StopRequest
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.seams import Inspection
from dad_edge.stream import loop
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable
from dad_edge.stream.loop import run_stream
from dad_edge.stream.results import Result, Sink, Summary

PATIENCE_S = 120.0
"""For another thread of a busy machine; what is waited for always comes."""


class Recorder(Sink):
    def __init__(self) -> None:
        self.results: list[Result] = []
        self.missing: list[Unreadable] = []
        self.summaries: list[Summary] = []

    def write(self, result: Result) -> None:
        self.results.append(result)

    def skip(self, missing: Unreadable) -> None:
        self.missing.append(missing)

    def close(self, summary: Summary) -> None:
        self.summaries.append(summary)


@pytest.fixture
def inspector(tiny_bundle: Bundle) -> Inspector:
    return open_inspector(tiny_bundle, threads=1)


def frame(image: np.ndarray, index: int) -> Frame:
    return Frame(image, f"{index}.png", index, datetime.now(timezone.utc))


def damaged(index: int) -> Unreadable:
    error = DataError(f"{index}.png is damaged.", "copy it again")
    return Unreadable(f"{index}.png", index, datetime.now(timezone.utc), error)


def test_every_frame_reaches_every_sink_in_order(
    inspector: Inspector, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    def frames() -> Frames:
        for index in range(30):
            yield frame(bright_frame if index % 3 == 0 else dark_frame, index)

    first, second = Recorder(), Recorder()
    summary = run_stream(Source("test", frames()), inspector, [first, second])
    for sink in (first, second):
        assert [result.frame.index for result in sink.results] == list(range(30))
        assert sink.summaries == [summary]
    assert summary.verdicts == {"good": 20, "defect": 10, "invalid": 0}
    assert summary.dropped == summary.unreadable == summary.smaller_than_model == 0
    assert summary.fps == pytest.approx(30 / summary.seconds, rel=0.1)
    assert 0 < summary.latency_ms["p50"] <= summary.latency_ms["p95"]
    for result in first.results:
        assert sum(result.inspection.stage_ms.values()) <= result.latency_ms


class Waiting:
    """An inspector that begins when an event says so."""

    depth = 1

    def __init__(self, inspector: Inspector, event: threading.Event) -> None:
        self._inspector = inspector
        self._event = event

    def submit(self, frames: list[np.ndarray]) -> list[Inspection]:
        assert self._event.wait(PATIENCE_S)
        return self._inspector.inspect_batch(frames)

    def collect(self, submission: list[Inspection]) -> list[Inspection]:
        return submission


def test_a_live_source_keeps_its_newest_frame_and_every_word_of_a_failed_read(
    inspector: Inspector, dark_frame: np.ndarray
) -> None:
    all_read = threading.Event()

    def frames() -> Frames:
        for index in range(120):
            yield damaged(index) if index in (60, 118) else frame(dark_frame, index)
        all_read.set()

    sink = Recorder()
    source = Source("test", frames(), live=True)
    with pytest.raises(DataError, match="2 of"):
        run_stream(source, Waiting(inspector, all_read), [sink])
    (summary,) = sink.summaries
    # One frame may be in hand before the reader is through, all others but the newest are dropped.
    assert summary.frames in (1, 2)
    assert summary.frames + summary.dropped == 118
    assert sink.results[-1].frame.index == 119
    assert [missing.index for missing in sink.missing] == [60, 118]


def test_max_frames_ends_an_endless_source(inspector: Inspector, dark_frame: np.ndarray) -> None:
    closed: list[bool] = []

    def frames() -> Frames:
        try:
            while True:
                yield frame(dark_frame, 0)
        finally:
            closed.append(True)

    summary = run_stream(Source("test", frames()), inspector, [Recorder()], max_frames=7)
    assert summary.frames == 7
    assert closed == [True]


def test_a_sink_can_end_the_run(inspector: Inspector, dark_frame: np.ndarray) -> None:
    class Window(Recorder):
        def write(self, result: Result) -> None:
            super().write(result)
            self.wants_stop = len(self.results) >= 3

    def frames() -> Frames:
        while True:
            yield frame(dark_frame, 0)

    sink = Window()
    summary = run_stream(Source("test", frames()), inspector, [sink])
    assert 3 <= summary.frames == len(sink.results)


def test_unreadable_pictures_are_counted_and_end_in_an_error(
    inspector: Inspector, dark_frame: np.ndarray
) -> None:
    def frames() -> Frames:
        yield frame(dark_frame, 0)
        yield damaged(1)
        yield frame(dark_frame, 2)

    sink = Recorder()
    with pytest.raises(DataError, match=r"1 of 3 pictures .* 1\.png is damaged") as caught:
        run_stream(Source("test", frames()), inspector, [sink])
    assert caught.value.next_step == "the results name them all; copy it again"
    assert [result.frame.index for result in sink.results] == [0, 2]
    assert [missing.name for missing in sink.missing] == ["1.png"]
    assert sink.summaries[0].unreadable == 1


def test_a_source_that_breaks_off_keeps_the_results_before(
    inspector: Inspector, dark_frame: np.ndarray
) -> None:
    def frames() -> Frames:
        for index in range(6):
            yield frame(dark_frame, index)
        raise DataError("the camera stopped.", "check the cable")

    sink = Recorder()
    with pytest.raises(DataError, match="the camera stopped"):
        run_stream(Source("test", frames()), inspector, [sink])
    assert len(sink.results) == sink.summaries[0].frames == 6


def test_a_full_disk_ends_the_run_and_closes_every_sink(
    inspector: Inspector, dark_frame: np.ndarray
) -> None:
    class FullDisk(Recorder):
        def write(self, result: Result) -> None:
            super().write(result)
            if len(self.results) == 4:
                with writing("results"):
                    raise OSError(errno.ENOSPC, "No space left on device")

    def frames() -> Frames:
        while True:
            yield frame(dark_frame, 0)

    full, sound = FullDisk(), Recorder()
    with pytest.raises(StorageError, match="the disk is full"):
        run_stream(Source("test", frames()), inspector, [sound, full])
    assert len(full.summaries) == len(sound.summaries) == 1
    assert len(sound.results) == 4


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_request_finishes_the_frame_and_closes_the_sinks(
    inspector: Inspector, dark_frame: np.ndarray, number: signal.Signals
) -> None:
    def frames() -> Frames:
        for index in range(1000):
            if index == 5:
                signal.raise_signal(number)
            yield frame(dark_frame, index)

    sink = Recorder()
    with StopRequest() as stop, pytest.raises(Interrupted) as caught:
        run_stream(Source("test", frames()), inspector, [sink], stop=stop)
    assert caught.value.exit_code == 128 + number
    assert len(sink.results) == sink.summaries[0].frames < 1000


def test_a_camera_that_hangs_does_not_hold_up_the_end(
    inspector: Inspector, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_JOIN_S", 0.05)
    written, unplugged, left = (threading.Event() for _ in range(3))

    class Noting(Recorder):
        def write(self, result: Result) -> None:
            super().write(result)
            written.set()

    def frames() -> Frames:
        yield frame(dark_frame, 0)
        assert written.wait(PATIENCE_S)
        signal.raise_signal(signal.SIGTERM)
        unplugged.wait()
        left.set()

    sink = Noting()
    with StopRequest() as stop, pytest.raises(Interrupted) as caught:
        run_stream(Source("test", frames(), live=True), inspector, [sink], stop=stop)
    assert not left.is_set()
    assert "beginning" not in caught.value.next_step
    assert sink.summaries[0].frames == 1
    unplugged.set()
    assert left.wait(PATIENCE_S)


def test_an_image_smaller_than_the_model_is_warned_about_once(
    inspector: Inspector, caplog: pytest.LogCaptureFixture
) -> None:
    def frames() -> Frames:
        for index in range(3):
            yield frame(np.zeros((20, 40, 3), np.uint8), index)

    summary = run_stream(Source("test", frames()), inspector, [Recorder()])
    assert summary.smaller_than_model == summary.frames == 3
    assert caplog.text.count("40×20 pixels, smaller than the model's 32×32") == 1


class Overlapped:
    """An inspector that notes what begins and what ends, one frame ahead."""

    def __init__(self, inspector: Inspector) -> None:
        self.events: list[tuple[str, int]] = []
        self.ended = threading.Event()
        self._inspector = inspector

    depth = 2

    def submit(self, frames: list[np.ndarray]) -> np.ndarray:
        if frames[0].shape[0] == 1:
            raise DataError("a bad frame.", "give another")
        self.events.append(("begin", int(frames[0][0, 0, 0])))
        return frames[0]

    def collect(self, submission: np.ndarray) -> list[Inspection]:
        self.events.append(("end", int(submission[0, 0, 0])))
        self.ended.set()
        return self._inspector.inspect_batch([submission])


def numbered(index: int) -> np.ndarray:
    return np.full((40, 40, 3), index, np.uint8)


def test_a_frame_that_is_there_begins_before_the_one_before_it_ends(inspector: Inspector) -> None:
    ready = threading.Event()

    def frames() -> Frames:
        for index in range(3):
            yield frame(numbered(index), index)
        yield damaged(3)
        yield frame(numbered(3), 4)
        ready.set()

    class Late(Overlapped):
        def submit(self, frames: list[np.ndarray]) -> np.ndarray:
            ready.wait(PATIENCE_S)  # all frames are in hand before the first begins
            return super().submit(frames)

    sink, overlapped = Recorder(), Late(inspector)
    with pytest.raises(DataError, match="1 of 5 pictures"):
        run_stream(Source("test", frames()), overlapped, [sink])
    begun = [("begin", 0), ("begin", 1), ("end", 0), ("begin", 2), ("end", 1), ("end", 2)]
    assert overlapped.events == [*begun, ("begin", 3), ("end", 3)]
    assert [result.frame.index for result in sink.results] == [0, 1, 2, 4]


def test_a_result_does_not_wait_for_a_frame_that_is_not_there(inspector: Inspector) -> None:
    overlapped = Overlapped(inspector)

    def frames() -> Frames:
        yield frame(numbered(0), 0)
        assert overlapped.ended.wait(PATIENCE_S)
        yield frame(numbered(1), 1)

    run_stream(Source("test", frames(), live=False), overlapped, [Recorder()])
    assert overlapped.events == [("begin", 0), ("end", 0), ("begin", 1), ("end", 1)]


def test_what_is_on_its_way_is_not_lost_at_the_end(inspector: Inspector) -> None:
    def endless() -> Frames:
        for index in range(200):
            yield frame(numbered(index), index)

    sink, overlapped = Recorder(), Overlapped(inspector)
    assert run_stream(Source("a", endless()), overlapped, [sink], max_frames=3).frames == 3
    assert [result.frame.index for result in sink.results] == [0, 1, 2]

    def with_a_bad_one() -> Frames:
        yield frame(numbered(0), 0)
        yield frame(np.zeros((1, 4, 3), np.uint8), 1)

    sink = Recorder()
    with pytest.raises(DataError, match="a bad frame"):
        run_stream(Source("b", with_a_bad_one()), Overlapped(inspector), [sink])
    assert [result.frame.index for result in sink.results] == [0]
