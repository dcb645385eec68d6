from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.errors import DataError, UsageError
from dad_edge.stream import sources
from dad_edge.stream.sources import Frame, Unreadable, open_source


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def write_video(path: Path, frames: Iterable[np.ndarray]) -> None:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (64, 48))
    for frame in frames:
        writer.write(frame)
    writer.release()


def test_a_folder_gives_its_images_in_name_order(tmp_path: Path, dark_frame: np.ndarray) -> None:
    for name in ("b.png", "a.png", "c.PNG", ".hidden.png", "sub/d.png"):
        write_png(tmp_path / name, dark_frame)
    (tmp_path / "notes.txt").write_text("not an image")
    source = open_source(str(tmp_path))
    frames = list(source.frames)
    assert [frame.name for frame in frames] == ["a.png", "b.png", "c.PNG"]
    assert (source.length, source.live) == (3, False)
    assert isinstance(frames[0], Frame)
    np.testing.assert_array_equal(frames[0].image, dark_frame)


def test_a_folder_of_folders_gives_all_images_but_the_masks(
    tmp_path: Path, dark_frame: np.ndarray
) -> None:
    for name in ("test/good/0.png", "test/bent/1.png", "ground_truth/bent/1_mask.png"):
        write_png(tmp_path / name, dark_frame)
    names = [frame.name for frame in open_source(f"file://{tmp_path}").frames]
    assert names == ["test/bent/1.png", "test/good/0.png"]


@pytest.mark.parametrize(
    "image",
    [
        np.full((48, 64), 40_000, np.uint16),
        np.full((48, 64, 3), 40_000, np.uint16),
        np.full((48, 64), 156, np.uint8),
        np.full((48, 64, 4), 156, np.uint8),
    ],
    ids=["16-bit grey", "16-bit colour", "grey", "with transparency"],
)
def test_images_of_every_depth_become_frames(tmp_path: Path, image: np.ndarray) -> None:
    write_png(tmp_path / "part.png", image)
    (frame,) = open_source(str(tmp_path / "part.png")).frames
    assert isinstance(frame, Frame)
    np.testing.assert_array_equal(frame.image, np.full((48, 64, 3), 156, np.uint8))


def test_a_truncated_image_is_reported_and_the_next_one_is_read(
    tmp_path: Path, dark_frame: np.ndarray
) -> None:
    write_png(tmp_path / "b.png", dark_frame)
    (tmp_path / "a.png").write_bytes((tmp_path / "b.png").read_bytes()[:40])
    damaged, sound = open_source(str(tmp_path)).frames
    assert isinstance(damaged, Unreadable)
    assert "a.png" in damaged.error.message
    assert isinstance(sound, Frame)
    assert sound.index == 1


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.raises(DataError, match="has no images"):
        open_source(str(tmp_path))


def test_a_folder_that_cannot_be_listed_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(sources.os, "scandir", refuse)
    with pytest.raises(DataError, match="Permission denied"):
        open_source(str(tmp_path))


def test_a_missing_path_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_source(str(tmp_path / "nothing"))


def test_no_such_camera_lists_the_cameras_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DataError, match=r"there is no camera 87: (found are|no /dev/video)"):
        open_source(87)
    assert capfd.readouterr().err == ""


def test_a_video_gives_every_frame(tmp_path: Path, dark_frame: np.ndarray) -> None:
    write_video(tmp_path / "line.avi", [dark_frame] * 5)
    source = open_source(str(tmp_path / "line.avi"))
    frames = list(source.frames)
    assert len(frames) == source.length == 5
    assert source.fps == 10
    assert frames[4].name == "line.avi#000004"


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


def test_a_video_that_breaks_off_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    class BrokenVideo:
        def __init__(self, path: str) -> None:
            self.left = 3

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (True, dark_frame) if self.left >= 0 else (False, None)

        def get(self, what: int) -> float:
            return 25.0

        def release(self) -> None:
            pass

    (tmp_path / "line.mp4").touch()
    monkeypatch.setattr(sources.cv2, "VideoCapture", BrokenVideo)
    frames = open_source(str(tmp_path / "line.mp4")).frames
    assert len(list(itertools.islice(frames, 3))) == 3
    with pytest.raises(DataError, match="ends after 3 of 25 frames"):
        next(frames)


def test_a_camera_that_stops_is_an_error(
    monkeypatch: pytest.MonkeyPatch, dark_frame: np.ndarray
) -> None:
    class UnpluggedCamera:
        def __init__(self, number: int) -> None:
            self.left = 2

        def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
            return True

        def read(self) -> tuple[bool, np.ndarray | None]:
            self.left -= 1
            return (True, dark_frame) if self.left >= 0 else (False, None)

        def get(self, what: int) -> float:
            return 0.0

        def release(self) -> None:
            pass

    monkeypatch.setattr(sources.cv2, "VideoCapture", UnpluggedCamera)
    source = open_source(0)
    assert (source.live, source.length, source.fps) == (True, None, 30.0)
    assert len(list(itertools.islice(source.frames, 2))) == 2
    with pytest.raises(DataError, match="stopped after 2 frames"):
        next(source.frames)


def test_the_password_of_a_network_camera_is_not_printed() -> None:
    with pytest.raises(DataError) as caught:
        open_source("rtsp://user:secret@127.0.0.1:9/line?token=hidden")
    assert "rtsp://127.0.0.1:9/line" in caught.value.message
    assert "secret" not in caught.value.message
    assert "hidden" not in caught.value.message


def test_the_demo_line_knows_its_truth() -> None:
    source = open_source("demo://?parts=3&seed=1")
    frames = [frame for frame in source.frames if isinstance(frame, Frame)]
    assert (len(frames), source.length) == (3, 3)
    for frame in frames:
        assert frame.mask is not None
        assert (frame.kind == "good") == (not frame.mask.any())
    assert open_source("demo://").length is None


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "camera://front", "demo://?parts=x", "demo://?speed=2", "demo://?parts"]
)
def test_unknown_sources_are_refused_with_an_example(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    assert "demo://" in caught.value.next_step
