from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import numpy as np
import pytest
from stand_in_engines import StandIn

from dad_edge.bundle import Bundle
from dad_edge.errors import DeviceError, ModelError
from dad_edge.line.worker import Images, Worker, words_of
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.seams import Inspection

PATIENCE_S = 60.0


class Deep:
    """An inspector that only passes on what it is told, two submissions at once."""

    backend, depth = "deep", 2

    def __init__(self) -> None:
        self.log: list[str] = []
        self.go_on = threading.Event()
        self.go_on.set()

    def submit(self, frames: Images) -> Any:
        self.log.append(f"submit {len(frames)}")
        if not frames:
            raise ModelError("no frames.", "give some")
        return frames

    def collect(self, submission: Any) -> list[Inspection]:
        assert self.go_on.wait(PATIENCE_S)
        self.log.append(f"collect {len(submission)}")
        return list(submission)

    def close(self) -> None:
        self.log.append("close")


def images(count: int) -> list[np.ndarray]:
    return [np.full((2, 2, 3), index, np.uint8) for index in range(count)]


def test_frames_are_inspected_in_the_thread_that_opened(
    tiny_bundle: Bundle, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    threads: list[str] = []

    def opened() -> Any:
        threads.append(threading.current_thread().name)
        return open_inspector(tiny_bundle, threads=1)

    worker = Worker("tiny", opened)
    worker.wait_until_open(PATIENCE_S)
    assert threads == ["engine tiny"]
    assert "ONNX Runtime" in worker.backend
    found = worker.submit([dark_frame, bright_frame]).wait(PATIENCE_S)
    assert [inspection.verdict for inspection in found] == ["good", "defect"]
    worker.close(PATIENCE_S)
    assert not worker.alive


def test_a_deep_engine_gets_the_next_frames_before_the_first_are_done() -> None:
    engine = Deep()
    engine.go_on.clear()
    worker = Worker("deep", lambda: engine)
    jobs = [worker.submit(images(count)) for count in (1, 2, 3)]
    deadline = time.monotonic() + PATIENCE_S
    while len(engine.log) < 2 and time.monotonic() < deadline:
        time.sleep(0.001)
    assert engine.log == ["submit 1", "submit 2"]
    engine.go_on.set()
    assert [len(job.wait(PATIENCE_S)) for job in jobs] == [1, 2, 3]
    worker.close(PATIENCE_S)
    assert engine.log[-1] == "close"
    assert engine.log.index("submit 3") > engine.log.index("collect 1")


def test_an_error_belongs_to_its_own_frames() -> None:
    worker = Worker("deep", Deep)
    first, wrong, last = (worker.submit(images(count)) for count in (1, 0, 2))
    assert len(first.wait(PATIENCE_S)) == 1
    with pytest.raises(ModelError, match="no frames"):
        wrong.wait(PATIENCE_S)
    assert len(last.wait(PATIENCE_S)) == 2
    worker.close(PATIENCE_S)


def test_an_engine_that_failed_gives_back_its_memory_at_once() -> None:
    """Not when Python collects rings of references: an engine holds hundreds of megabytes."""
    alive: list[weakref.ref[Deep]] = []

    def opened() -> Deep:
        engine = Deep()
        alive.append(weakref.ref(engine))
        return engine

    gc.disable()
    try:
        worker = Worker("deep", opened)
        with pytest.raises(ModelError):
            worker.submit([]).wait(PATIENCE_S)
        worker.close(PATIENCE_S)
        assert alive[0]() is None
    finally:
        gc.enable()


def test_an_engine_that_does_not_open_says_why() -> None:
    def fail() -> Deep:
        raise DeviceError("no such GPU.", "buy one")

    worker = Worker("gone", fail)
    with pytest.raises(DeviceError, match="no such GPU"):
        worker.wait_until_open(PATIENCE_S)
    worker.close(PATIENCE_S)
    assert not worker.alive


def test_an_engine_that_hangs_is_left_alone_and_ends_when_it_returns() -> None:
    engine = Deep()
    engine.go_on.clear()
    worker = Worker("hung", lambda: engine)
    job = worker.submit(images(1))
    with pytest.raises(DeviceError, match="no answer in time"):
        job.wait(0.05)
    worker.close()
    assert worker.alive
    engine.go_on.set()
    worker.close(PATIENCE_S)
    assert not worker.alive
    assert engine.log[-1] == "close"


def test_an_engine_that_loses_a_frame_has_failed() -> None:
    engine = Deep()
    engine.collect = lambda submission: []  # type: ignore[method-assign]
    worker = Worker("lossy", lambda: engine)
    with pytest.raises(DeviceError, match="lost a frame"):
        worker.submit(images(1)).wait(PATIENCE_S)
    worker.close(PATIENCE_S)


def test_lanes_work_at_the_same_time() -> None:
    engines = [StandIn(), StandIn()]
    both = threading.Barrier(2, timeout=PATIENCE_S)

    def meet(images: Images) -> None:
        both.wait()  # passes only if the other lane is at work too

    for engine in engines:
        engine.fault = meet
    waiting = iter(engines)
    worker = Worker("lanes", lambda: next(waiting), lanes=2)
    worker.wait_until_open(PATIENCE_S)
    assert (worker.depth, worker.backend) == (2, "stand-in, 2 side by side")
    jobs = [worker.submit(images(1)) for _ in range(4)]
    assert [len(job.wait(PATIENCE_S)) for job in jobs] == [1] * 4
    worker.close(PATIENCE_S)
    assert [engine.closed for engine in engines] == [1, 1]


def test_what_is_open_is_closed_when_another_lane_does_not_open() -> None:
    engine, opened = StandIn(), threading.Lock()

    def one_only() -> StandIn:
        if not opened.acquire(blocking=False):
            raise DeviceError("no memory.", "use fewer cameras")
        return engine

    worker = Worker("lanes", one_only, lanes=2)
    with pytest.raises(DeviceError, match="no memory"):
        worker.wait_until_open(PATIENCE_S)
    worker.close(PATIENCE_S)
    assert engine.closed == 1
    assert not worker.alive


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DeviceError("the GPU was lost.", "x"), "the GPU was lost"),
        (RuntimeError("CUDA error 700\nstack"), "CUDA error 700"),
        (KeyError(), "KeyError()"),
    ],
)
def test_an_error_is_told_in_a_few_words(error: Exception, words: str) -> None:
    assert words_of(error) == words
