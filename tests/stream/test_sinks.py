from __future__ import annotations

import io
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from rich.console import Console
from stream_results import make_result, missing_picture

from dad_edge.errors import DeviceError, StorageError, UsageError
from dad_edge.machine.windows import INSTALL
from dad_edge.stream import sinks
from dad_edge.stream.annotate import Annotator, outline
from dad_edge.stream.dashboard import TerminalSink, on_one_line
from dad_edge.stream.frames import Source
from dad_edge.stream.results import Summary
from dad_edge.stream.sinks import VideoSink, WindowSink


def test_names_cannot_steer_the_terminal() -> None:
    assert on_one_line("a\n\x1b[31mü b.png") == r"a\n\x1b[31mü b.png"


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


def test_the_banner_and_the_terminal_say_why_a_frame_is_invalid() -> None:
    result = make_result()
    dark, plain = (
        replace(result, inspection=replace(result.inspection, verdict="invalid", reason=reason))
        for reason in ("too dark: brightness 0", "too plain: contrast 0")
    )
    one, other = (Annotator(0.5, 0.5).draw(each) for each in (dark, plain))
    assert (one != other).any(axis=(1, 2))[:56].any(), "in the banner"
    assert (one == other)[56:].all()
    for terminal in (False, True):
        text = io.StringIO()
        sink = TerminalSink(1, 0.5, Console(file=text, force_terminal=terminal, width=100))
        sink.write(dark)
        sink.close(Summary())
        assert "too dark: brightness 0" in text.getvalue()


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
