from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in_engines import PATIENCE_S, StandIn

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError
from dad_edge.line.camera import Camera, Place
from dad_edge.line.config import CameraConfig, DriftConfig, EngineConfig
from dad_edge.line.engines import EngineGroup
from dad_edge.line.intake import Intake
from dad_edge.line.seams import EventKind, Judged
from dad_edge.line.thresholds import ThresholdBook
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable


class Told:
    """What a camera tells its line."""

    def __init__(self) -> None:
        self.frames: list[Judged] = []
        self.missing: list[Unreadable] = []
        self.events: list[tuple[EventKind, str]] = []
        self._numbers = itertools.count()

    def judged(self, make: Callable[[str], Judged]) -> Judged:
        self.frames.append(make(f"run-{next(self._numbers)}"))
        return self.frames[-1]

    def skipped(self, camera: str, missing: Unreadable) -> None:
        self.missing.append(missing)

    def happened(self, kind: EventKind, camera: str, message: str, **details: Any) -> None:
        self.events.append((kind, message))


def frame(index: int, value: int = 10) -> Frame:
    image = np.full((4, 6, 3), value, np.uint8)
    return Frame(image, f"{index}.png", index, datetime.now(timezone.utc))


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


class Rig:
    """A camera with its engine, without a line."""

    def __init__(self, bundle: Bundle, folder: Path, items: Iterator[Any], **settings: Any) -> None:
        runs = iter(settings.pop("runs", [items]))

        def frames() -> Frames:
            yield from next(runs, ())

        live = settings.pop("live", False)
        self.told = Told()
        self.engine = StandIn()
        intake = Intake(["a"])
        self.group = EngineGroup(
            [self.engine.candidate()],
            intake,
            EngineConfig(),
            1,
            lambda answer: self.camera.judge(answer),
            lambda message: None,
        )
        settings.setdefault("source", "parts")
        config = CameraConfig(**settings)
        book = ThresholdBook(folder)
        place = Place(
            bundle, intake, self.group, book.of_camera("a", config, bundle), book.of_bundle(bundle)
        )
        drift = DriftConfig(false_alarms=0)

        def opened() -> Source:
            return Source("the source", frames(), live=live)

        self.camera = Camera("a", config, drift, opened, place, self.told)
        self.intake = intake

    def run(self) -> Rig:
        self.group.start()
        self.camera.reader.start()
        return self

    def finish(self) -> Rig:
        wait(lambda: self.camera.finished)
        self.group.stop()
        return self


Setup = Callable[..., Rig]


@pytest.fixture
def rig(tiny_bundle: Bundle, tmp_path: Path) -> Iterator[Setup]:
    made: list[Rig] = []

    def make(items: Iterator[Any], **settings: Any) -> Rig:
        made.append(Rig(tiny_bundle, tmp_path / "line", items, **settings))
        return made[-1]

    yield make
    for each in made:
        each.intake.close()
        each.group.stop()


def test_every_frame_of_a_file_is_judged_in_order_and_counted(rig: Setup) -> None:
    one = rig(frame(index, 90 if index % 4 == 0 else 10) for index in range(12)).run().finish()
    assert [judged.result.frame.index for judged in one.told.frames] == list(range(12))
    assert [judged.verdict for judged in one.told.frames[:2]] == ["defect", "good"]
    judged = one.told.frames[0]
    assert (judged.camera, judged.rejected, judged.threshold) == ("a", True, 0.5)
    assert (judged.engine, judged.id, judged.reason) == ("stand-in", "run-0", None)
    assert judged.result.latency_ms >= 0
    assert judged.result.waited_ms >= 0
    state = one.camera.state()
    assert (state.frames, state.dropped, state.unreadable) == (12, 0, 0)
    assert dict(state.verdicts) == {"good": 9, "defect": 3, "invalid": 0}
    assert state.fps > 0
    assert state.latency_ms > 0
    assert (state.online, state.error, state.source) == (False, "", "the source")
    assert [kind for kind, _ in one.told.events] == ["online", "offline"]


def test_a_password_is_not_shown_before_the_source_is_open(rig: Setup) -> None:
    one = rig(iter(()), source="rtsp://me:secret@host/x")
    assert one.camera.state().source == "rtsp://host/x"


def test_pictures_that_cannot_be_read_or_cut_are_told_of(rig: Setup) -> None:
    damaged = Unreadable("1.png", 1, datetime.now(timezone.utc), DataError("damaged.", "x"))
    small = Frame(np.zeros((2, 2, 3), np.uint8), "2.png", 2, datetime.now(timezone.utc))
    one = rig(iter([frame(0), damaged, small, frame(3)]), region=(0, 0, 5, 4)).run().finish()
    assert [missing.name for missing in one.told.missing] == ["1.png", "2.png"]
    assert "reaches beyond" in one.told.missing[1].error.message
    assert [judged.result.frame.index for judged in one.told.frames] == [0, 3]
    assert one.told.frames[0].result.frame.image.shape == (4, 5, 3)
    assert one.camera.state().unreadable == 2


def test_a_source_that_breaks_off_takes_the_camera_offline_with_the_reason(rig: Setup) -> None:
    def items() -> Iterator[Frame]:
        yield frame(0)
        raise DataError("the cable is out.", "plug it in")

    one = rig(items()).run().finish()
    assert len(one.told.frames) == 1
    state = one.camera.state()
    assert not state.online
    assert "the cable is out. next: plug it in" in state.error
    assert one.told.events[-1] == ("offline", state.error)


def test_a_paused_camera_judges_nothing_and_goes_on(rig: Setup) -> None:
    one = rig(frame(index) for index in range(5))
    one.camera.pause(True)
    one.camera.pause(True)
    one.run()
    wait(lambda: one.camera.state().online)
    assert one.told.frames == []
    assert one.camera.state().paused
    one.camera.pause(False)
    one.finish()
    assert len(one.told.frames) == 5
    kinds = [kind for kind, _ in one.told.events if kind in ("paused", "resumed")]
    assert kinds == ["paused", "resumed"]


def test_whoever_waits_gets_the_next_frame(rig: Setup) -> None:
    gate = threading.Event()

    def items() -> Iterator[Frame]:
        yield frame(0)
        assert gate.wait(PATIENCE_S)
        yield frame(1)

    one = rig(items()).run()
    first = one.camera.next("", PATIENCE_S)
    assert first is not None
    assert first.id == "run-0"
    assert one.camera.next("run-0", 0.01) is None
    gate.set()
    second = one.camera.next("run-0", PATIENCE_S)
    assert second is not None
    assert second.id == "run-1"
    assert one.camera.latest is second


def test_a_camera_that_is_to_stop_reads_no_more(rig: Setup) -> None:
    read: list[int] = []

    def items() -> Iterator[Frame]:
        for index in itertools.count():
            read.append(index)
            yield frame(index)

    one = rig(items(), live=True).run()
    wait(lambda: len(one.told.frames) > 2)
    one.camera.reader.request_stop()
    one.camera.reader.join(PATIENCE_S)
    count = len(read)
    time.sleep(0.02)
    assert len(read) == count
    assert one.told.events == [("online", "the source is read.")]


def test_the_scale_of_scores_holds_the_threshold(rig: Setup) -> None:
    low, high = rig(iter(()), threshold=0.45).camera.state().score_range
    assert (low, high) == (0.0, 0.9)


def test_a_camera_whose_last_frames_nobody_wanted_has_finished(rig: Setup) -> None:
    one = rig((frame(index) for index in range(5)), live=True)
    one.camera.pause(True)
    one.run()
    wait(lambda: one.camera.reader.ended)
    assert not one.camera.finished
    one.camera.pause(False)
    wait(lambda: one.camera.finished)
    assert [judged.result.frame.index for judged in one.told.frames] == [4]


def test_a_frame_that_could_not_be_judged_does_not_keep_the_line_alive(
    rig: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = rig(frame(index) for index in range(3))
    judged = one.told.judged

    def fail_once(make: Callable[[str], Judged]) -> Judged:
        monkeypatch.setattr(one.told, "judged", judged)
        raise ZeroDivisionError

    monkeypatch.setattr(one.told, "judged", fail_once)
    one.run().finish()
    assert [judged.result.frame.index for judged in one.told.frames] == [1, 2]


def test_a_camera_that_comes_back_is_read_again(
    rig: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.stream.watch.FIRST_S", 0.001)
    gone = DataError("the cable is out.", "plug it in")

    def breaks_off(*indices: int) -> Iterator[Frame]:
        yield from map(frame, indices)
        raise gone

    runs = [breaks_off(0, 1), breaks_off(), breaks_off(), breaks_off(0)]
    one = rig(iter(()), runs=runs, source="rtsp://host/x").run()
    wait(lambda: len(one.told.events) >= 4)
    kinds = [kind for kind, _ in one.told.events]
    assert kinds[:4] == ["online", "offline", "online", "offline"]
    assert "the cable is out" in one.told.events[1][1]
    assert not one.camera.finished
    wait(lambda: len(one.told.frames) == 3)
    one.camera.reader.request_stop()
    one.camera.reader.join(PATIENCE_S)
    assert [judged.result.frame.index for judged in one.told.frames] == [0, 1, 2]
