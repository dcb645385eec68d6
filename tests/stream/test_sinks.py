from __future__ import annotations

import errno
import io
import json
import math
import os
import shutil
import sys
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import pytest
from rich.console import Console

from dad_edge.errors import DataError, DeviceError, StorageError, UsageError
from dad_edge.runtime.seams import Inspection
from dad_edge.stream import sinks
from dad_edge.stream.annotate import Annotator, outline
from dad_edge.stream.dashboard import TerminalSink, on_one_line
from dad_edge.stream.frames import Frame, Source, Unreadable
from dad_edge.stream.results import Result, Summary
from dad_edge.stream.sinks import JsonLinesSink, StdoutSink, VideoSink, WindowSink

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
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {"backend": "tiny"}, 0.5)
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
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5)
    for index in range(3):
        sink.write(make_result(index))
        assert read_lines(tmp_path / "results.jsonl")[-1]["index"] == index
    sink.close(Summary())


def test_a_full_disk_is_an_error_from_the_first_line() -> None:
    with pytest.raises(StorageError, match=r"/dev/full: the disk is full"):
        JsonLinesSink.create(Path("/dev/full"), {}, 0.5, replace=True)


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
    sink = JsonLinesSink.create(path, {}, 0.5)
    sink._file.close()
    sink._file = FillingDisk(path, "ab")
    sink.write(make_result())
    with pytest.raises(StorageError, match="the disk is full"):
        sink.write(make_result(1))
    assert [line["record"] for line in read_lines(path)] == ["header", "frame"]
    with pytest.raises(StorageError):
        sink.close(Summary())
    assert sink._file.closed


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("precious")
    with pytest.raises(StorageError, match="holds the results of an earlier run"):
        JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5)
    assert (tmp_path / "results.jsonl").read_text() == "precious"
    JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5, replace=True).close(Summary())
    assert len(read_lines(tmp_path / "results.jsonl")) == 2


@pytest.mark.parametrize("threshold", [0.13868559, 0.1386855, 0.138686, 0.1386855542])
def test_score_and_verdict_of_a_record_agree(tmp_path: Path, threshold: float) -> None:
    score = float(np.float32(0.13868555))
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {}, threshold)
    sink.write(make_result(score=score))
    sink.close(Summary())
    record = read_lines(tmp_path / "results.jsonl")[1]
    assert (record["score"] > record["threshold"]) == (score > threshold)
    assert record["score"] == pytest.approx(score, abs=5e-7)


def test_names_that_are_not_utf8_are_escaped_in_every_sink(tmp_path: Path) -> None:
    result = make_result()
    result = replace(result, frame=replace(result.frame, name="a\udcfc.png"))
    missing = replace(missing_picture(), name="b\udcfc.png")
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {"source": "\udcfc"}, 0.5)
    text = io.StringIO()
    for taker in (sink, TerminalSink(3, 0.5, Console(file=text, width=100))):
        taker.write(result)
        taker.skip(missing)
        taker.close(Summary())
    header, frame, error, _ = read_lines(tmp_path / "results.jsonl")
    assert header["source"] == r"\xfc"
    assert (frame["name"], error["name"]) == (r"a\xfc.png", r"b\xfc.png")
    text.getvalue().encode("ascii")
    assert Annotator(0.5, 0.5).draw(result).any()


def test_names_cannot_steer_the_terminal() -> None:
    assert on_one_line("a\n\x1b[31mü b.png") == r"a\n\x1b[31mü b.png"


def closed_pipe() -> io.TextIOWrapper:
    """A text stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@pytest.mark.parametrize("only", [True, False])
def test_a_reader_that_leaves_ends_the_run_where_nothing_else_takes_the_results(
    monkeypatch: pytest.MonkeyPatch, only: bool
) -> None:
    with closed_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        sink = StdoutSink({}, 0.5, only=only)
        sink.write(make_result())
        sink.skip(missing_picture())
        sink.close(Summary())
    assert (sink.reader_left, sink.wants_stop) == (True, only)


def test_a_stdout_that_was_never_open_is_as_one_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    sink = StdoutSink({}, 0.5, only=True)
    sink.close(Summary())
    assert sink.wants_stop


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
    with pytest.raises(UsageError, match="cannot open a window here"):
        WindowSink(Annotator(0.5, 0.5))


def test_a_video_in_a_folder_whose_name_is_not_utf8(tmp_path: Path) -> None:
    folder = tmp_path / "parts\udcfc"
    folder.mkdir()
    source = Source("test", iter(()))  # type: ignore[arg-type]
    sink = VideoSink(folder / "line.mp4", source, Annotator(0.5, 0.5))
    sink.write(make_result())
    sink.close(Summary())
    shutil.copy(folder / "line.mp4", tmp_path / "copy.mp4")
    assert read_video(tmp_path / "copy.mp4").frames == 1


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
