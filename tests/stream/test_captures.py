from __future__ import annotations

import itertools
import logging
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.errors import DataError
from dad_edge.stream import captures
from dad_edge.stream.captures import open_network, open_video
from dad_edge.stream.devices import open_camera
from dad_edge.stream.frames import Frame, Source, Unreadable


class FakeCapture:
    """Gives pictures, None for a failed read, or raises; nothing but failures after the last."""

    def __init__(self, reads: Sequence[np.ndarray | Exception | None], promised: int) -> None:
        self._reads = iter(reads)
        self._promised = promised

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def read(self) -> tuple[bool, np.ndarray | None]:
        picture = next(self._reads, None)
        if isinstance(picture, Exception):
            raise picture
        return picture is not None, picture

    def get(self, what: int) -> float:
        return float(self._promised) if what == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def release(self) -> None:
        pass


def opened(
    monkeypatch: pytest.MonkeyPatch,
    path: Path | int,
    reads: Sequence[np.ndarray | Exception | None],
    promised: int = 0,
) -> Source:
    capture = FakeCapture(reads, promised)
    monkeypatch.setattr(captures.cv2, "VideoCapture", lambda *_: capture)
    if isinstance(path, int):
        return open_camera(path)
    path.touch()
    return open_video(path)


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()


def indices(items: Iterable[Frame | Unreadable], kind: type[Frame] | type[Unreadable]) -> list[int]:
    return [item.index for item in items if isinstance(item, kind)]


def test_a_video_gives_every_frame(tmp_path: Path, dark_frame: np.ndarray) -> None:
    write_video(tmp_path / "line.avi", [dark_frame] * 5)
    source = open_video(tmp_path / "line.avi")
    frames = list(source.frames)
    assert len(frames) == source.length == 5
    assert source.fps == 10
    assert frames[4].name == "line.avi#000004"


def test_a_damaged_frame_of_a_video_is_reported_and_the_next_one_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    bad = [None, cv2.error("corrupt"), MemoryError(), np.zeros((0, 4), np.uint8)]
    reads = [dark_frame, *bad, dark_frame, None, dark_frame]
    items = list(opened(monkeypatch, tmp_path / "line.mp4", reads).frames)
    assert indices(items, Frame) == [0, 5, 7]
    assert indices(items, Unreadable) == [1, 2, 3, 4, 6]
    assert items[1].name == "line.mp4#000001"


def test_a_video_may_begin_with_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    items = list(opened(monkeypatch, tmp_path / "line.ts", [None, dark_frame]).frames)
    assert (indices(items, Unreadable), indices(items, Frame)) == ([0], [1])


def test_a_damaged_frame_in_a_real_file(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(20)]
    write_video(tmp_path / "line.mp4", pictures)
    content = bytearray((tmp_path / "line.mp4").read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4500] = bytes(4500)  # more than a whole frame
    (tmp_path / "line.mp4").write_bytes(content)
    items = list(open_video(tmp_path / "line.mp4").frames)
    assert len(indices(items, Unreadable)) >= 1
    assert indices(items, Frame)[-1] == 19


def test_too_few_frames_for_an_estimate_are_no_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dark_frame: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "dad_edge")
    items = list(opened(monkeypatch, tmp_path / "line.mkv", [dark_frame] * 3, promised=25).frames)
    assert indices(items, Frame) == [0, 1, 2]
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "3 frames were read; about 25 follow from its duration" in caplog.text


def test_a_real_file_whose_duration_is_longer_than_its_frames(
    tmp_path: Path, dark_frame: np.ndarray, caplog: pytest.LogCaptureFixture
) -> None:
    """As with a pause between two frames, or beside a longer sound track."""
    caplog.set_level(logging.INFO, "dad_edge")
    path = tmp_path / "line.mkv"
    write_video(path, [dark_frame] * 9)
    content = bytearray(path.read_bytes())
    duration = content.index(b"\x44\x89\x88") + 3  # a double; RFC 9559, 5.1.2.10
    (length,) = struct.unpack_from(">d", content, duration)
    struct.pack_into(">d", content, duration, 10 * length)
    path.write_bytes(content)
    source = open_video(path)
    assert source.length is not None
    assert source.length > 80
    assert len(list(source.frames)) == 9
    assert [record.levelname for record in caplog.records] == ["INFO"]


def test_too_few_frames_for_an_index_are_worth_a_warning(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dark_frame: np.ndarray,
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = opened(monkeypatch, tmp_path / "line.mp4", [dark_frame] * 3, promised=25)
    (tmp_path / "line.mp4").write_bytes(b"\0\0\0\x10ftypisom\0\0\0\0")
    assert len(list(source.frames)) == 3
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "lists 25 frames and 3 could be read" in caplog.text


def test_a_video_that_was_cut_off_is_an_error(tmp_path: Path, dark_frame: np.ndarray) -> None:
    write_video(tmp_path / "whole.mkv", [dark_frame] * 9)
    content = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "line.mkv").write_bytes(content[: len(content) * 2 // 3])
    frames = open_video(tmp_path / "line.mkv").frames
    taken: list[Frame | Unreadable] = []
    with pytest.raises(DataError, match=r"was cut off: \d+ bytes are missing"):
        taken.extend(frames)
    assert 3 <= len(taken) < 9


def test_a_video_whose_name_is_not_utf8(tmp_path: Path, dark_frame: np.ndarray) -> None:
    write_video(tmp_path / "line.avi", [dark_frame] * 2)
    shutil.move(tmp_path / "line.avi", tmp_path / "n\udcfc.avi")
    frames = list(open_video(tmp_path / "n\udcfc.avi").frames)
    assert [frame.name for frame in frames] == [r"n\xfc.avi#000000", r"n\xfc.avi#000001"]


@pytest.mark.parametrize("name", ["http:a.avi", "tcp:a.avi", "-a.avi", "a[1]b.avi"])
def test_a_name_that_looks_like_something_else(
    tmp_path: Path, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    write_video(tmp_path / "line.avi", [dark_frame] * 2)
    shutil.move(tmp_path / "line.avi", tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(list(open_video(Path(name)).frames)) == 2


def test_a_damaged_video_is_an_error_without_noise_of_the_decoder(tmp_path: Path) -> None:
    (tmp_path / "line.mp4").write_bytes(bytes(5000))
    # In a process of its own, because FFmpeg reads its log level once.
    command = [sys.executable, "-m", "dad_edge", "stream", "--source", "line.mp4"]
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    said = [line for line in done.stderr.splitlines() if not line.startswith(("bundle", "backend"))]
    assert [line.split(":")[0] for line in said] == ["error", "next"]
    assert "not a video that can be read" in said[0]


def test_a_damaged_picture_does_not_end_a_camera(
    monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    frames = opened(monkeypatch, 0, [dark_frame, None, cv2.error("corrupt"), dark_frame]).frames
    items = list(itertools.islice(frames, 4))
    assert (indices(items, Frame), indices(items, Unreadable)) == ([0, 3], [1, 2])


def test_a_camera_that_stops_is_an_error(
    monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    source = opened(monkeypatch, 0, [dark_frame] * 2)
    assert (source.live, source.length, source.fps) == (True, None, 30.0)
    items: list[Frame | Unreadable] = []
    with pytest.raises(DataError, match="stopped after 2 frames"):
        items.extend(source.frames)
    assert [item.index for item in items] == [0, 1]


def test_several_failed_reads_in_a_row_end_a_camera_and_fewer_do_not(
    monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    most = captures._FAILED_READS
    reads = [dark_frame, *[None] * (most - 1), dark_frame, *[None] * most, dark_frame]
    items: list[Frame | Unreadable] = []
    with pytest.raises(DataError, match="stopped after 2 frames"):
        items.extend(opened(monkeypatch, 0, reads).frames)
    assert indices(items, Frame) == [0, most]
    assert indices(items, Unreadable) == list(range(1, most))


def test_a_camera_that_takes_long_to_fail_is_not_asked_again(
    monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    source = opened(monkeypatch, 0, [dark_frame, None, dark_frame])
    clock = itertools.count(0.0, captures._SILENCE_S + 1)
    monkeypatch.setattr(captures.time, "monotonic", lambda: next(clock))
    items: list[Frame | Unreadable] = []
    with pytest.raises(DataError, match="stopped after 1 frames"):
        items.extend(source.frames)
    assert [item.index for item in items] == [0]


def test_the_password_of_a_network_camera_is_not_printed() -> None:
    with pytest.raises(DataError) as caught:
        open_network("rtsp://user:secret@127.0.0.1:9/line?token=hidden")
    assert "rtsp://127.0.0.1:9/line" in caught.value.message
    assert "secret" not in caught.value.message
    assert "hidden" not in caught.value.message


def test_a_password_that_must_be_escaped_is_explained() -> None:
    with pytest.raises(DataError) as caught:
        open_network("rtsp://user:se/cret@127.0.0.1:9/line")
    assert "se" not in caught.value.message.removeprefix("cannot open rtsp://")
    assert "%2F" in caught.value.next_step
