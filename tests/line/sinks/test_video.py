from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import pytest
from judged_frames import judged

from dad_edge.errors import StorageError
from dad_edge.line.settings import VideoSettings
from dad_edge.line.sinks.video import VideoSegments


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def frames_in(path: Path) -> int:
    video = cv2.VideoCapture(str(path))
    frames = 0
    while video.read()[0]:
        frames += 1
    video.release()
    return frames


def test_segments_keep_real_time(tmp_path: Path) -> None:
    sink = VideoSegments(tmp_path, VideoSettings(minutes=0.5, fps=2))
    for number in range(40):
        sink.write(judged(number, camera="left" if number % 2 else "right"))
    sink.close()
    left = sorted((tmp_path / "left").iterdir())
    assert [frames_in(path) for path in left] == [57, 17]
    assert left[0].name == "20260102T030406000000Z.mp4"
    assert len(list((tmp_path / "right").iterdir())) == 2


def test_the_oldest_segments_go_first(tmp_path: Path) -> None:
    sink = VideoSegments(tmp_path, VideoSettings(minutes=0.01, fps=2, gigabytes=0.001))
    for number in range(6):
        for old in tmp_path.glob("*/*.mp4"):
            with old.open("r+b") as file:
                file.truncate(400_000)
        sink.write(judged(number))
    sink.close()
    names = sorted(path.name for path in tmp_path.glob("*/*.mp4"))
    assert names[-1] == "20260102T030410000000Z.mp4"
    assert len(names) <= 4


def test_a_disk_without_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = VideoSegments(tmp_path, VideoSettings())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 0, 1000))
    with pytest.raises(StorageError, match="less than 1 GB"):
        sink.write(judged(1))
    sink.close()
