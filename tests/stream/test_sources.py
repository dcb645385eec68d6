from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.errors import DadEdgeError, DataError, UsageError
from dad_edge.stream import sources
from dad_edge.stream.frames import Frame, Unreadable
from dad_edge.stream.sources import open_source


def write_png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


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


def test_an_image_of_any_damage_is_reported_and_the_next_one_is_read(
    tmp_path: Path, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures = {
        "a.png": MemoryError("Unable to allocate 64 GiB"),
        "b.png": OSError(116, "Stale file handle"),
        "c.png": ValueError(),
    }
    for name in (*failures, "d.png"):
        write_png(tmp_path / name, dark_frame)

    def read(path: Path, bit_depth: int | None) -> np.ndarray:
        if path.name in failures:
            raise failures[path.name]
        return dark_frame

    monkeypatch.setattr(sources, "read_frame", read)
    *damaged, sound = open_source(str(tmp_path)).frames
    said = [item.error.message for item in damaged if isinstance(item, Unreadable)]
    assert ["64 GiB" in said[0], "Stale file" in said[1], "ValueError" in said[2]] == [True] * 3
    assert isinstance(sound, Frame)
    assert sound.index == 3


def test_a_folder_that_vanishes_is_said(tmp_path: Path, dark_frame: np.ndarray) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_png(tmp_path / "share" / name, dark_frame)
    frames = open_source(str(tmp_path / "share")).frames
    assert isinstance(next(frames), Frame)
    (tmp_path / "share").rename(tmp_path / "unmounted")
    with pytest.raises(DataError, match="is gone; 1 of its 3 images were inspected"):
        next(frames)


def test_names_that_are_not_utf8_are_escaped(tmp_path: Path, dark_frame: np.ndarray) -> None:
    write_png(tmp_path / "a\udcfc.png", dark_frame)
    (frame,) = open_source(str(tmp_path)).frames
    assert isinstance(frame, Frame)
    assert frame.name == r"a\xfc.png"


def test_a_folder_of_videos_says_how_to_inspect_one(tmp_path: Path) -> None:
    (tmp_path / "line.mp4").touch()
    (tmp_path / "night.MKV").touch()
    with pytest.raises(DataError, match=r"no images, but 2 video") as caught:
        open_source(str(tmp_path))
    assert f"--source {tmp_path / 'line.mp4'}" in caught.value.next_step


def test_the_home_folder_has_its_short_name(
    tmp_path: Path, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_png(tmp_path / "parts" / "a.png", dark_frame)
    monkeypatch.setenv("HOME", str(tmp_path))
    for named in ("~/parts", "file://~/parts", f"file://localhost{tmp_path}/parts"):
        assert open_source(named).length == 1


@pytest.mark.parametrize(
    ("named", "message", "next_step"),
    [
        (r"C:\parts\good", "a path of Windows", "/mnt/c/parts/good"),
        ("D:/parts", "a path of Windows", "/mnt/d/parts"),
        ("D://parts", "a path of Windows", "/mnt/d/parts"),
        (r"\\server\share", "a network share of Windows", "mount the share"),
        ("97", "there is no camera 97", "plug in"),
        ("/dev/null", "is not a camera", "/dev/video0"),
        ("/dev/video97", "there is no camera 97", "plug in"),
        ("v4l2:///dev/video97", "there is no camera 97", "plug in"),
        ("v4l2://97", "there is no camera 97", "plug in"),
        ("v4l2://97?fps=30", "there is no camera 97", "plug in"),
        ("v4l2:///dev/null", "is not a camera", "/dev/video0"),
    ],
)
def test_what_is_likely_meant_is_said(named: str, message: str, next_step: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        open_source(named)
    assert next_step in caught.value.next_step


@pytest.mark.parametrize("named", ["camera://front", "csi:///dev/video0", "v4l2://?fps=30"])
def test_an_address_that_names_no_camera_is_refused(named: str) -> None:
    with pytest.raises(UsageError, match="names no camera") as caught:
        open_source(named)
    assert "v4l2:///dev/video0?" in caught.value.next_step


@pytest.mark.parametrize("named", ["", " ", "file://"])
def test_an_empty_source_is_not_the_current_folder(named: str) -> None:
    with pytest.raises(UsageError, match="--source is empty"):
        open_source(named)


def test_an_address_that_opencv_would_not_survive_is_refused() -> None:
    with pytest.raises(UsageError, match=r"rtsp://camera/\\xfc holds characters"):
        open_source("rtsp://admin:secret@camera/\udcfc")


def test_a_pipe_is_no_source(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "line.mp4")
    with pytest.raises(DataError, match="neither a file nor a folder"):
        open_source(str(tmp_path / "line.mp4"))


@pytest.mark.parametrize("named", ["rtps://admin:secret@host/x", "admin:secret@host/x"])
def test_a_mistyped_address_keeps_its_password(named: str) -> None:
    with pytest.raises(DadEdgeError) as caught:
        open_source(named)
    assert "secret" not in caught.value.message
    assert "host/x" in caught.value.message


def test_the_demo_line_knows_its_truth() -> None:
    source = open_source("demo://?parts=3&seed=1")
    frames = [frame for frame in source.frames if isinstance(frame, Frame)]
    assert (len(frames), source.length) == (3, 3)
    for frame in frames:
        assert frame.mask is not None
        assert (frame.kind == "good") == (not frame.mask.any())
    assert open_source("demo://").length is None


@pytest.mark.parametrize(
    "uri", ["ftp://host/x", "demo://?parts=x", "demo://?speed=2", "demo://?parts"]
)
def test_unknown_sources_are_refused_with_an_example(uri: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    assert "demo://" in caught.value.next_step
