from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from line_outlets import Kept

from dad_edge.bundle import Bundle
from dad_edge.errors import DeviceError, StorageError, UsageError
from dad_edge.files import write_json
from dad_edge.line import runner
from dad_edge.line.config import CameraConfig, DriftConfig, LineConfig
from dad_edge.line.engines import EngineGroup
from dad_edge.line.runner import Line, LineSummary
from dad_edge.line.seams import Event, LineControl
from dad_edge.machine.signals import StopRequest
from dad_edge.service.notify import Notifier

PATIENCE_S = 120.0


def write_images(folder: Path, count: int, *, bright_every: int = 0) -> Path:
    folder.mkdir()
    for index in range(count):
        value = 250 if bright_every and index % bright_every == 0 else 20
        cv2.imwrite(str(folder / f"{index:03}.png"), np.full((40, 50, 3), value, np.uint8))
    return folder


def config_of(bundle: Bundle, folder: Path, **sources: Any) -> LineConfig:
    cameras = {
        name: s if isinstance(s, CameraConfig) else CameraConfig(source=s, bundle=str(bundle.path))
        for name, s in sources.items()
    }
    return LineConfig(cameras=cameras, folder=str(folder), drift=DriftConfig(false_alarms=0))


def work(line: Line, kept: Kept | None = None) -> tuple[LineSummary, Kept]:
    kept = kept or Kept()
    return line.work(lambda on_event: kept, StopRequest()), kept


@contextmanager
def running(line: Line) -> Iterator[Kept]:
    """The line at work in a thread of its own, stopped as by a signal at the end."""
    kept, stop = Kept(), StopRequest()
    thread = threading.Thread(target=lambda: line.work(lambda on_event: kept, stop))
    thread.start()
    try:
        yield kept
    finally:
        stop.signal_number = 15
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_every_frame_of_every_camera_reaches_the_sinks_once(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    left = write_images(tmp_path / "left", 12, bright_every=3)
    right = write_images(tmp_path / "right", 7)
    (right / "damaged.png").write_bytes(b"no picture")
    line = Line(config_of(tiny_bundle, tmp_path / "line", left=str(left), right=str(right)))
    summary, kept = work(line)
    for camera, count in (("left", 12), ("right", 7)):
        own = [judged for judged in kept.frames if judged.camera == camera]
        assert len(own) == count
        indices = [judged.result.frame.index for judged in own]
        assert indices == sorted(set(indices))
    assert [(camera, missing.name) for camera, missing in kept.missing] == [
        ("right", "damaged.png")
    ]
    assert "right: image" in caplog.text
    assert "damaged.png is damaged" in caplog.text
    numbers = [judged.id for judged in kept.frames]
    assert numbers == sorted(set(numbers))
    assert {number.rpartition("-")[0] for number in numbers} == {line.run}
    assert "-" not in line.run
    assert dict(summary.cameras["left"].verdicts) == {"good": 8, "defect": 4, "invalid": 0}
    assert summary.errors == {}
    assert kept.closed == 1
    assert kept.kinds()[0] == "started"
    assert kept.kinds()[-1] == "stopped"
    started = kept.events[0].details["cameras"]
    assert started["left"]["bundle"] == "bundle"
    assert "ONNX Runtime" in started["left"]["engine"]
    assert all("ONNX Runtime" in judged.engine for judged in kept.frames)


def test_cameras_of_one_bundle_share_an_engine(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.line.assembly.usable_cores", lambda: 1)  # one lane
    threads = {thread.name for thread in threading.enumerate()}
    line = Line(config_of(tiny_bundle, tmp_path, a="demo://", b="demo://", c="demo://"))
    with running(line) as kept:
        wait(lambda: len({judged.camera for judged in kept.frames}) == 3)
        engines = [t.name for t in threading.enumerate() if t.name.startswith("engine ")]
        assert len(engines) - sum(name.startswith("engine ") for name in threads) == 1


def test_the_page_sees_and_steers_a_running_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    line = Line(config_of(tiny_bundle, tmp_path / "line", left="demo://", right="demo://"))
    control: LineControl = line
    with running(line) as kept:
        first = control.next("left", "", PATIENCE_S)
        assert first is not None
        second = control.next("left", first.id, PATIENCE_S)
        assert second is not None
        assert second.id > first.id
        assert control.set_threshold("left", 0.9) == 0.5
        assert [state.threshold for state in control.cameras()] == [0.9, 0.9]
        path = tiny_bundle.path / "thresholds.json"
        assert json.loads(path.read_text(encoding="utf-8"))["image_threshold"] == 0.9
        wait(lambda: kept.frames[-1].threshold == 0.9)
        control.pause("left", True)
        assert [state.paused for state in control.cameras()] == [True, False]
        control.pause("left", False)
        assert [sink.name for sink in control.sinks()] == ["kept"]
        latest = control.latest("right")
        assert latest is None or latest.camera == "right"
        for event in kept.events:
            assert event in control.events()
    [changed] = [event for event in kept.events if event.kind == "threshold"]
    assert changed.details == {"before": 0.5, "after": 0.9, "cameras": ["left", "right"]}
    assert {"paused", "resumed"} <= set(kept.kinds())


def test_what_does_not_exist_cannot_be_steered(tiny_bundle: Bundle, tmp_path: Path) -> None:
    line = Line(config_of(tiny_bundle, tmp_path, left="demo://"))
    assert line.latest("none") is None
    assert line.next("none", "", 0.0) is None
    with pytest.raises(UsageError, match="no camera 'none'"):
        line.set_threshold("none", 0.5)
    with pytest.raises(UsageError, match="no camera 'none'"):
        line.pause("none", True)
    with pytest.raises(UsageError, match="must lie in"):
        line.set_threshold("left", 55)


def test_an_edited_threshold_holds_without_a_restart(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK_S", 0.01)
    path = tiny_bundle.path / "thresholds.json"
    mapping = json.loads(path.read_text(encoding="utf-8"))
    line = Line(config_of(tiny_bundle, tmp_path / "line", left="demo://"))
    with running(line) as kept:
        wait(lambda: bool(kept.frames))
        write_json(path, mapping | {"image_threshold": 0.75})
        wait(lambda: kept.frames[-1].threshold == 0.75)
        path.write_text("{", encoding="utf-8")
        wait(lambda: any("not valid JSON" in event.message for event in kept.events))
        assert line.cameras()[0].threshold == 0.75
    changed = [event for event in kept.events if event.kind == "threshold"]
    assert changed[0].details == {"after": 0.75}


def test_a_clock_that_jumps_is_told_of(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_LOOK_S", 0.01)
    shift = [0.0]

    clock = SimpleNamespace(
        time=lambda: time.time() + shift[0], monotonic=time.monotonic, sleep=time.sleep
    )
    monkeypatch.setattr(runner, "time", clock)
    line = Line(config_of(tiny_bundle, tmp_path, left="demo://"))
    with running(line) as kept:
        wait(lambda: bool(kept.frames))
        time.sleep(0.05)
        shift[0] = 3600.0
        wait(lambda: "clock" in kept.kinds())
    [jump] = [event for event in kept.events if event.kind == "clock"]
    assert jump.details["seconds"] == pytest.approx(3600, abs=5)


def test_a_dead_camera_delays_no_other(tiny_bundle: Bundle, tmp_path: Path) -> None:
    good = write_images(tmp_path / "good", 10)
    line = Line(
        config_of(tiny_bundle, tmp_path / "line", dead=str(tmp_path / "none"), good=str(good))
    )
    summary, kept = work(line)
    assert [judged.camera for judged in kept.frames] == ["good"] * 10
    assert list(summary.errors) == ["dead"]
    assert "does not exist" in summary.errors["dead"]
    offline = [event for event in kept.events if event.kind == "offline"]
    assert {event.camera for event in offline} == {"dead", "good"}


def test_an_engine_that_does_not_open_ends_the_line_with_the_reason(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise DeviceError("no driver.", "install one")

    line = Line(config_of(tiny_bundle, tmp_path, left="demo://"))
    monkeypatch.setattr("dad_edge.line.candidates.open_choice", lambda *a, **k: fail())
    kept = Kept()
    with pytest.raises(DeviceError, match="no driver"):
        line.work(lambda on_event: kept, StopRequest())
    assert kept.closed == 1
    assert kept.frames == []


def test_sinks_that_cannot_be_opened_end_the_line(tiny_bundle: Bundle, tmp_path: Path) -> None:
    def fail(on_event: Callable[[Event], None]) -> Kept:
        raise StorageError("the disk is full.", "free some space")

    line = Line(config_of(tiny_bundle, tmp_path, left="demo://"))
    with pytest.raises(StorageError, match="disk is full"):
        line.work(fail, StopRequest())


def test_a_signal_ends_the_line_with_every_frame_under_way_written(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    line = Line(config_of(tiny_bundle, tmp_path, a="demo://", b="demo://"))
    with running(line) as kept:
        wait(lambda: len(kept.frames) > 10)
    assert kept.closed == 1
    assert kept.kinds()[-1] == "stopped"
    assert "a signal came" in kept.events[-1].message
    numbers = [int(judged.id.rpartition("-")[2]) for judged in kept.frames]
    assert numbers == list(range(1, len(numbers) + 1))


def test_systemd_is_told_that_the_line_lives_as_long_as_its_engines_go_on(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    lives: list[Callable[[], bool]] = []
    monkeypatch.setattr(Notifier, "_send", lambda self, state: told.append(state))
    monkeypatch.setattr(Notifier, "keep_alive", lambda self, is_alive: lives.append(is_alive))
    line = Line(config_of(tiny_bundle, tmp_path, left="demo://", right="demo://"))
    with running(line):
        wait(lambda: bool(lives))
        assert told == ["READY=1\nSTATUS=line: 2 cameras"]
        assert lives[0]()
        monkeypatch.setattr(EngineGroup, "alive", property(lambda group: False))
        assert not lives[0]()
    assert told[1:] == ["STOPPING=1"]
    assert not line.alive
