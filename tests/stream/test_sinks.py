from __future__ import annotations

import errno
import io
import json
import math
import shutil
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from rich.console import Console

from dad_edge.errors import DataError, DeviceError, StorageError, UsageError
from dad_edge.machine.windows import INSTALL
from dad_edge.runtime.seams import Inspection
from dad_edge.stream import sinks
from dad_edge.stream.annotate import Annotator, outline
from dad_edge.stream.dashboard import TerminalSink
from dad_edge.stream.results import Result, Summary
from dad_edge.stream.sinks import JsonLinesSink, VideoSink, WindowSink
from dad_edge.stream.sources import Frame, Source, Unreadable

START = datetime(2026, 1, 2, 3, 4, 5, 678_900, tzinfo=timezone.utc)


def make_result(
    index: int = 0, *, score: float = 0.75, shape: tuple[int, int] = (48, 64), seconds: float = 0
) -> Result:
    score_map = np.zeros((32, 32), np.float32)
    score_map[8:16, 8:16] = score
    inspection = Inspection(
        score=score,
        verdict="defect" if math.isfinite(score) else "invalid",
        score_map=score_map,
        heat=np.rint(np.nan_to_num(score_map) * 255).astype(np.uint8),
        image=np.zeros((3, 32, 32), np.float32),
        restored=np.zeros((3, 32, 32), np.float32),
        stage_ms={"inject": 1.0, "denoise": 2.00049},
    )
    image = np.full((*shape, 3), 90, np.uint8)
    frame = Frame(image, f"{index}.png", index, START + timedelta(seconds=seconds), "dent")
    return Result(frame, inspection, latency_ms=3.5, waited_ms=0.25)


def missing_picture() -> Unreadable:
    return Unreadable("7.png", 7, START, DataError("7.png is empty.", "remove it"))


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines_hold_header_frames_errors_and_summary(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "results.jsonl", {"backend": "tiny"}, 0.5)
    sink.write(make_result())
    sink.write(make_result(1, score=math.nan))
    sink.skip(missing_picture())
    sink.close(Summary(frames=2))
    header, first, second, missing, summary = read_lines(tmp_path / "results.jsonl")
    assert header == {"record": "header", "schema": 1, "backend": "tiny"}
    assert first == {
        "record": "frame",
        "index": 0,
        "name": "0.png",
        "time": "2026-01-02T03:04:05.678+00:00",
        "score": 0.75,
        "threshold": 0.5,
        "verdict": "defect",
        "latency_ms": 3.5,
        "waited_ms": 0.25,
        "stage_ms": {"inject": 1.0, "denoise": 2.0},
        "kind": "dent",
    }
    assert (second["score"], second["verdict"]) == (None, "invalid")
    assert (missing["record"], missing["index"]) == ("error", 7)
    assert missing["error"] == "7.png is empty."
    assert (summary["record"], summary["frames"]) == ("summary", 2)


def test_every_json_line_is_on_disk_before_the_next_frame(tmp_path: Path) -> None:
    sink = JsonLinesSink(tmp_path / "results.jsonl", {}, 0.5)
    for index in range(3):
        sink.write(make_result(index))
        assert read_lines(tmp_path / "results.jsonl")[-1]["index"] == index
    sink.close(Summary())


def test_a_full_disk_is_an_error_from_the_first_line() -> None:
    with pytest.raises(StorageError, match=r"/dev/full: the disk is full"):
        JsonLinesSink(Path("/dev/full"), {}, 0.5)


def test_a_disk_that_fills_up_inside_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    class FillingDisk(io.FileIO):
        room = 400

        def write(self, data: Any) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(data[: self.room])
            self.room -= written
            return written

    path = tmp_path / "results.jsonl"
    sink = JsonLinesSink(path, {}, 0.5)
    sink._file.close()
    sink._file = FillingDisk(path, "ab")
    sink.write(make_result())
    with pytest.raises(StorageError, match="the disk is full"):
        sink.write(make_result(1))
    assert [line["record"] for line in read_lines(path)] == ["header", "frame"]
    with pytest.raises(StorageError):
        sink.close(Summary())
    assert sink._file.closed


class Video(NamedTuple):
    frames: int
    fps: float
    shape: tuple[int, ...]


def read_video(path: Path) -> Video:
    capture = cv2.VideoCapture(str(path))
    count, shape = 0, ()
    while True:
        found, picture = capture.read()
        if not found:
            return Video(count, capture.get(cv2.CAP_PROP_FPS), shape)
        count, shape = count + 1, picture.shape


def test_a_video_holds_every_frame_whatever_its_size(tmp_path: Path) -> None:
    source = Source("test", iter(()), fps=12.0)  # type: ignore[arg-type]
    sink = VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5))
    for index, shape in enumerate([(48, 64), (64, 48), (301, 99), (1, 1)]):
        sink.write(make_result(index, shape=shape))
    sink.close(Summary())
    assert read_video(tmp_path / "line.mp4") == Video(4, 12.0, (440, 1032, 3))


def test_the_video_of_a_live_source_keeps_real_time(tmp_path: Path) -> None:
    source = Source("test", iter(()), live=True, fps=10.0)  # type: ignore[arg-type]
    sink = VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5))
    for index, seconds in enumerate([0, 0.5, 0.51, 1.0]):
        sink.write(make_result(index, seconds=seconds))
    sink.close(Summary())
    assert read_video(tmp_path / "line.mp4").frames == 11


def test_a_disk_that_fills_up_leaves_a_readable_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Source("test", iter(()))  # type: ignore[arg-type]
    sink = VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5))
    for index in range(3):
        sink.write(make_result(index))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(sinks.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    with pytest.raises(StorageError, match="the disk is full"):
        sink.write(make_result(3))
    sink.close(Summary())
    assert read_video(tmp_path / "line.mp4").frames == 3


def test_a_video_that_lost_its_end_is_an_error(tmp_path: Path) -> None:
    class LossyWriter:
        def write(self, picture: np.ndarray) -> None:
            pass

        def release(self) -> None:
            pass

    source = Source("test", iter(()))  # type: ignore[arg-type]
    sink = VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5))
    sink.write(make_result())
    sink._writer.release()  # type: ignore[union-attr]
    sink._writer = LossyWriter()  # type: ignore[assignment]
    sink.write(make_result(1))
    with pytest.raises(StorageError, match="1 of 2 frames are in it"):
        sink.close(Summary())


def test_a_missing_video_codec_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks.cv2.VideoWriter, "fourcc", lambda *_: 0x7E7E7E7E)
    source = Source("test", iter(()))  # type: ignore[arg-type]
    sink = VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5))
    with pytest.raises(DeviceError, match="cannot write MPEG-4 video"):
        sink.write(make_result())
    sink.close(Summary())


def test_a_video_without_frames_is_no_file(tmp_path: Path) -> None:
    source = Source("test", iter(()))  # type: ignore[arg-type]
    VideoSink(tmp_path / "line.mp4", source, Annotator(0.5, 0.5)).close(Summary())
    assert not (tmp_path / "line.mp4").exists()


def test_a_window_without_a_display_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DISPLAY", ":9753")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setattr(sinks, "window_toolkit", lambda: "QT5")
    with pytest.raises(UsageError, match="cannot open a window here"):
        WindowSink(Annotator(0.5, 0.5))


def test_an_opencv_without_windows_names_what_installs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sinks, "window_toolkit", lambda: None)
    with pytest.raises(UsageError, match="needs an OpenCV with windows") as caught:
        WindowSink(Annotator(0.5, 0.5))
    assert caught.value.next_step == INSTALL


def test_the_outline_surrounds_what_is_above_the_pixel_threshold() -> None:
    score_map = make_result().inspection.score_map
    grey = np.full((320, 320, 3), 90, np.uint8)
    marked = np.argwhere((outline(grey, score_map, 0.5) != 90).any(axis=2))
    assert np.abs(marked.min(axis=0) - 80).max() < 10
    assert np.abs(marked.max(axis=0) - 160).max() < 10
    np.testing.assert_array_equal(outline(grey, score_map, 0.8), grey)


def test_an_invalid_frame_is_drawn_as_rejected() -> None:
    annotator = Annotator(0.5, 0.5)
    defect, invalid = make_result(), make_result(score=math.nan)
    good = replace(defect, inspection=replace(defect.inspection, verdict="good"))
    colours = [tuple(annotator.draw(result)[20, 3]) for result in (good, defect, invalid)]
    assert colours[1] == colours[2] != colours[0]


def show(*, terminal: bool) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=100)
    sink = TerminalSink(3, 0.5, console)
    for index in range(2):
        sink.write(make_result(index))
    sink.skip(missing_picture())
    sink.close(Summary(2, {"good": 0, "defect": 2}, 1, 0, 0, 1.0, 2.0, {"p50": 3.5, "p95": 4.0}))
    return text.getvalue()


def test_the_live_table_shows_the_latest_verdicts() -> None:
    text = show(terminal=True)
    for expected in ("verdict", "0.7500", "7.png is empty.", "3/3", "2 defect", "1 unreadable"):
        assert expected in text
    assert "latency p50 3.5 ms" in text


def test_without_a_terminal_there_are_plain_lines() -> None:
    lines = show(terminal=False).splitlines()
    assert lines[:3] == [
        "defect: 0.png, score 0.7500",
        "defect: 1.png, score 0.7500",
        "unreadable: 7.png: 7.png is empty.",
    ]
    assert lines[3] == "2 frames inspected: 2 defect."
    assert lines[-1] == "Pictures that could not be read: 1."
