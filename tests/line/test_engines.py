from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from stand_in_engines import PATIENCE_S, Hang, StandIn

from dad_edge.errors import DataError, DeviceError
from dad_edge.line import candidates as candidates_module
from dad_edge.line import lookout
from dad_edge.line.config import EngineConfig
from dad_edge.line.engines import MOST_HUNG, NAN_LIMIT, EngineGroup
from dad_edge.line.intake import Answer, Intake, Waiting
from dad_edge.line.worker import Images
from dad_edge.stream.frames import Frame


def frame_of(camera: str, index: int, value: int = 10) -> Frame:
    image = np.full((2, 2, 3), value, np.uint8)
    return Frame(image, f"{camera}{index}", index, datetime.now(timezone.utc))


class Bench:
    """A group of cameras without sources."""

    def __init__(self, engines: list[StandIn], cameras: str, settings: EngineConfig,
                 on_gpu: bool) -> None:  # fmt: skip
        self.answers: list[Answer] = []
        self.events: list[str] = []
        self.intake = Intake(list(cameras))
        self.group = EngineGroup(
            [engine.candidate(on_gpu=on_gpu) for engine in engines],
            self.intake,
            settings,
            len(cameras),
            self.answers.append,
            self.events.append,
        )
        self.group.start()

    def put(self, camera: str, index: int, value: int = 10, *, live: bool = False) -> None:
        frame = frame_of(camera, index, value)
        assert self.intake.put(Waiting(camera, frame, time.perf_counter(), live))

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, (self.events, len(self.answers))
            time.sleep(0.002)

    def ask(self, camera: str, index: int, value: int = 10, *, live: bool = False) -> Answer:
        """Put a frame and wait for its answer."""
        count = len(self.answers)
        self.put(camera, index, value, live=live)
        self.wait(lambda: len(self.answers) > count)
        return self.answers[-1]


Setup = Callable[..., Bench]


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Setup]:
    monkeypatch.setattr(candidates_module, "LONGEST_PAUSE_S", 0.01)
    made: list[Bench] = []

    def make(
        *engines: StandIn, cameras: str = "ab", on_gpu: bool = False, **settings: float
    ) -> Bench:
        made.append(Bench(list(engines), cameras, EngineConfig(**settings), on_gpu))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for each in made:
        each.group.stop()


def test_every_frame_gets_its_answer_in_order_and_names_what_computed_it(bench: Setup) -> None:
    line = bench(StandIn("one"))
    assert line.group.wait_until_open()
    for index in range(10):
        for camera in "ab":
            line.put(camera, index, index)
    line.wait(lambda: len(line.answers) == 20)
    for camera in "ab":
        own = [a for a in line.answers if a.waiting.camera == camera]
        assert [a.waiting.frame.index for a in own] == list(range(10))
        assert [round(a.inspection.score * 100) for a in own if a.inspection] == list(range(10))
    assert {(a.backend, a.engine, a.reason) for a in line.answers} == {("one", "one", "")}
    assert all(a.waiting.read_at <= a.in_hand_at <= a.done_at for a in line.answers)
    assert line.events == []


def test_a_batch_holds_one_frame_of_each_camera_on_a_gpu_and_one_on_a_cpu(bench: Setup) -> None:
    for on_gpu, expected in ((True, 3), (False, 1)):
        engine = StandIn()
        hang = Hang()
        engine.fault = hang
        line = bench(engine, cameras="abc", on_gpu=on_gpu, gather_ms=0.0)
        line.put("a", 0)
        line.wait(lambda engine=engine: engine.batches == [1])  # type: ignore[misc]
        for camera in "abc":
            line.put(camera, 1)
        hang.let_go.set()
        line.wait(lambda line=line: len(line.answers) == 4)  # type: ignore[misc]
        assert engine.batches[1] == expected


def test_an_engine_that_fails_once_is_started_again(bench: Setup) -> None:
    engine, spare = StandIn("fast"), StandIn("spare")
    line = bench(engine, spare)
    assert line.ask("a", 0).reason == ""

    def fail(images: Images) -> None:
        engine.fault = lambda images: None
        raise DeviceError("the GPU was lost.", "look at it")

    engine.fault = fail
    failed = line.ask("a", 1)
    assert (failed.inspection, failed.reason, failed.backend) == (None, "the GPU was lost", "fast")
    after = line.ask("a", 2)
    assert (after.reason, after.backend) == ("", "fast")
    assert engine.opened == 2
    assert engine.closed == 1
    assert spare.opened == 0
    assert "started again" in line.events[0]
    assert "inspects now" in line.events[1]


def test_an_engine_that_fails_again_is_replaced_by_the_next_best(bench: Setup) -> None:
    engine, spare = StandIn("fast"), StandIn("spare")

    def fail(images: Images) -> None:
        raise RuntimeError("cuda error 700\nstack")

    engine.fault = fail
    line = bench(engine, spare)
    reasons = [line.ask("a", index).reason for index in range(3)]
    assert reasons == ["cuda error 700", "cuda error 700", ""]
    assert line.answers[-1].engine == "spare"
    assert (line.group.engine, line.group.error) == ("spare", "")
    assert "engine 'spare' takes its place" in line.events[2]


def test_an_engine_that_hangs_is_left_and_another_one_inspects(bench: Setup) -> None:
    engine = StandIn("fast")
    hang = Hang()

    def once(images: Images) -> None:
        engine.fault = lambda images: None
        hang(images)

    engine.fault = once
    line = bench(engine, timeout_s=0.2)
    answer = line.ask("a", 0)
    assert answer.inspection is None
    assert "no answer in time" in answer.reason
    assert line.ask("a", 1).reason == ""
    hang.let_go.set()
    line.wait(lambda: engine.closed == 1)


def test_no_more_engines_are_opened_than_may_hang(bench: Setup) -> None:
    engine = StandIn("fast")
    engine.fault = hang = Hang()
    line = bench(engine, timeout_s=0.05)
    for index in range(MOST_HUNG):
        assert line.ask("a", index).inspection is None
    answers = [line.ask("a", index, live=True) for index in range(10, 15)]
    assert all(answer.reason.startswith("no engine: ") for answer in answers)
    assert engine.opened == MOST_HUNG
    assert not line.group.alive
    engine.fault = lambda images: None
    hang.let_go.set()
    line.wait(lambda: line.group.error == "")
    assert line.ask("a", 20).reason == ""
    assert line.group.alive


def test_scores_that_are_no_numbers_are_told_of_and_end_in_another_engine(bench: Setup) -> None:
    engine, spare = StandIn("fp16"), StandIn("fp32")
    bad = engine.collect
    engine.collect = lambda s: [replace(i, score=math.nan) for i in bad(s)]  # type: ignore[method-assign]
    line = bench(engine, spare)
    for index in range(2 * NAN_LIMIT):
        answer = line.ask("a", index)
        assert answer.inspection is not None
        assert math.isnan(answer.inspection.score)
        assert answer.engine == "fp16"
    assert line.ask("a", 99).engine == "fp32"
    assert "not a number" in line.events[0]
    assert sum("are not numbers" in event for event in line.events) == 2


def test_a_frame_at_fault_spoils_neither_its_batch_nor_the_engine(bench: Setup) -> None:
    engine = StandIn()
    hang = Hang()

    def refuse(images: Images) -> None:
        hang(images)
        if any(image[0, 0, 0] == 99 for image in images):
            raise DataError("a frame is wrong.", "send another")

    engine.fault = refuse
    line = bench(engine, cameras="abc", on_gpu=True, gather_ms=0.0)
    line.put("a", 0)
    line.wait(lambda: engine.batches == [1])
    for camera, value in (("a", 1), ("b", 99), ("c", 3)):
        line.put(camera, 1, value)
    hang.let_go.set()
    line.wait(lambda: len(line.answers) == 4)
    assert {a.waiting.camera: a.reason for a in line.answers[1:]} == {
        "a": "", "b": "a frame is wrong", "c": "",
    }  # fmt: skip
    assert engine.opened == 1
    assert line.events == []


def test_without_an_engine_live_frames_are_answered_and_files_wait(bench: Setup) -> None:
    first, second = StandIn("first"), StandIn("second")
    gate = threading.Event()
    opened = second.candidate().open

    def slow_open() -> StandIn:
        assert gate.wait(PATIENCE_S)
        opened()
        return second

    second.candidate = lambda **_: candidates_module.Candidate("second", "second", False, slow_open)  # type: ignore[method-assign]

    def fail(images: Images) -> None:
        raise DeviceError("gone.", "x")

    first.fault = fail
    line = bench(first, second)
    for index in range(2):
        line.ask("a", index)
    line.put("a", 2)
    answer = line.ask("b", 0, live=True)
    assert answer.reason == "no engine: engine 'first' failed: gone"
    gate.set()
    line.wait(lambda: len(line.answers) == 4)
    assert (line.answers[-1].waiting.frame.name, line.answers[-1].engine) == ("a2", "second")


def test_if_no_engine_opens_the_group_says_so_and_goes_on_trying(bench: Setup) -> None:
    engine = StandIn()
    tries: list[int] = []

    def fails_thrice() -> StandIn:
        tries.append(1)
        if len(tries) <= 3:
            raise DeviceError("no driver.", "install one")
        return engine

    engine.candidate = lambda **_: candidates_module.Candidate("it", None, False, fails_thrice)  # type: ignore[method-assign]
    line = bench(engine)
    assert not line.group.wait_until_open()
    assert "it cannot be opened: no driver" in line.group.error
    assert line.ask("a", 0).reason == ""
    assert line.group.error == ""


def test_an_end_answers_what_is_under_way_even_if_the_engine_hangs(bench: Setup) -> None:
    engine = StandIn()
    engine.fault = hang = Hang()
    line = bench(engine)
    line.put("a", 0)
    line.wait(lambda: engine.batches == [1])
    line.put("b", 0)
    line.group.stop()
    assert not line.intake.put(Waiting("b", frame_of("b", 1), time.perf_counter(), False))
    [answer] = line.answers
    assert answer.inspection is None
    assert answer.reason == "the line ended before the engine answered"
    assert line.events == []
    hang.let_go.set()


def test_a_mistake_while_judging_loses_no_other_frame(
    bench: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    line = bench(StandIn())
    kept = line.group._answer

    def spoil(answer: Answer) -> None:
        if answer.waiting.frame.index == 1:
            raise ZeroDivisionError
        kept(answer)

    line.group._answer = spoil
    for index in range(3):
        line.put("a", index)
    line.wait(lambda: len(line.answers) == 2)
    assert [answer.waiting.frame.index for answer in line.answers] == [0, 2]
    assert "a1 could not be judged" in caplog.text


def test_a_free_lane_takes_a_frame_while_another_one_is_at_work(bench: Setup) -> None:
    engine = StandIn()
    engine.lanes = 2
    engine.fault = hang = Hang()
    line = bench(engine)
    line.put("a", 0)
    line.wait(lambda: engine.batches == [1])
    line.put("b", 0)
    line.wait(lambda: engine.batches == [1, 1])
    assert line.answers == []
    hang.let_go.set()
    line.wait(lambda: len(line.answers) == 2)
    assert [answer.waiting.camera for answer in line.answers] == ["a", "b"]
    assert line.answers[0].backend == "stand-in, 2 side by side"


def test_servers_that_answer_again_inspect_again(
    bench: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookout, "PAUSE_S", 0.01)
    gone = threading.Event()
    servers, spare = StandIn("servers"), StandIn("spare")

    def fail(images: Images) -> None:
        if gone.is_set():
            raise DeviceError("no answer.", "see its log")

    def probe() -> None:
        fail([])

    def opened() -> StandIn:
        fail([])
        return servers

    servers.fault = fail
    servers.probe, servers.open_as = probe, opened
    line = bench(servers, spare)
    assert line.ask("a", 0).backend == "servers"
    gone.set()
    assert "no answer" in line.ask("a", 1).reason
    line.wait(lambda: line.group.backend == "spare")
    for index in range(2, 30):
        assert line.ask("b", index).backend == "spare"
    gone.clear()
    index = 30
    while line.ask("a", index).backend != "servers":
        index += 1
        assert index < 100_000
    told = [event for event in line.events if "answers again" in event]
    assert told == ["engine 'servers' answers again."]
    indices = [a.waiting.frame.index for a in line.answers if a.waiting.camera == "a"]
    assert indices == sorted(indices)
    assert not [a for a in line.answers[2:] if a.reason]


def test_an_engine_of_this_machine_is_not_gone_back_to(bench: Setup) -> None:
    first, spare = StandIn("first"), StandIn("spare")

    def fail(images: Images) -> None:
        raise DeviceError("broken.", "mend it")

    first.fault = fail
    line = bench(first, spare)
    line.ask("a", 0)
    line.wait(lambda: line.ask("a", 1).backend == "spare")
    first.fault = lambda images: None
    for index in range(2, 50):
        assert line.ask("a", index).backend == "spare"
