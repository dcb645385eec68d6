from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.stream.containers import has_index, missing_bytes


@pytest.fixture(params=["mp4", "mov", "avi", "mkv"])
def video(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    path = tmp_path / f"line.{request.param}"
    code = cv2.VideoWriter.fourcc(*("mp4v" if path.suffix != ".avi" else "MJPG"))
    writer = cv2.VideoWriter(str(path), code, 10.0, (64, 48))
    rng = np.random.default_rng(0)
    for _ in range(12):
        writer.write(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))
    writer.release()
    return path


def test_a_whole_file_misses_nothing(video: Path) -> None:
    assert missing_bytes(video) == 0


def test_what_lies_behind_the_end_is_no_damage(video: Path) -> None:
    with video.open("ab") as file:
        file.write(bytes(1000))
    assert missing_bytes(video) == 0


@pytest.mark.parametrize("cut", [5, 1000])
def test_a_cut_off_file_misses_what_was_cut(video: Path, cut: int) -> None:
    video.write_bytes(video.read_bytes()[:-cut])
    assert missing_bytes(video) > 0


def test_a_file_that_lists_its_frames(video: Path) -> None:
    assert has_index(video) == (video.suffix != ".mkv")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"RIFF",
        b"RIFF\0\0\0\0AVI LIST",
        b"\0\0\0\0ftypisom",
        b"\0\0\0\x01mdat\0\0\0\0\0\0\0\0",
        b"\x1a\x45\xdf\xa3",
        b"\x1a\x45\xdf\xa3\x80\x18\x53\x80\x67\x01\xff\xff\xff\xff\xff\xff\xff",
        bytes(188),
    ],
    ids=["empty", "short", "never closed", "to the end", "no size", "header", "live", "other"],
)
def test_a_file_that_does_not_tell_its_size_is_not_called_cut(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "line").write_bytes(content)
    assert missing_bytes(tmp_path / "line") == 0
    assert missing_bytes(tmp_path / "nothing") == 0
    assert not has_index(tmp_path / "nothing")
