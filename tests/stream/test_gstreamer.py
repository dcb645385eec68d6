"""With GStreamer and PyGObject as the system has them; left out where it has none."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dad_edge.errors import DadEdgeError, DataError, MissingDependency, UsageError
from dad_edge.stream import gstreamer
from dad_edge.stream.frames import Frame
from dad_edge.stream.sources import open_source
from dad_edge.stream.watch import lasts

BALL = "videotestsrc is-live=true pattern=ball ! video/x-raw,width=322,height=241,framerate=15/1"
PROBE = """
import gi
gi.require_version("Gst", "1.0")
from gi.repository import Gst
Gst.init(None)
assert Gst.ElementFactory.find("videoconvert")
"""

real = pytest.mark.skipif(
    subprocess.run([gstreamer._python(), "-c", PROBE], capture_output=True, check=False).returncode
    != 0,
    reason="no GStreamer with PyGObject",
)


def pipelines() -> dict[int, int]:
    """Processes of pipelines that are alive, and their parents."""
    found = {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, ppid = (path / "stat").read_text().rpartition(")")[2].split()[:2]
            is_pipeline = b"gstreamer_child" in (path / "cmdline").read_bytes()
        except OSError:  # it has ended meanwhile
            continue
        if is_pipeline and state != "Z":
            found[int(path.name)] = int(ppid)
    return found


def children(parent: int) -> list[int]:
    return [child for child, its_parent in pipelines().items() if its_parent == parent]


def wait(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.02)


@real
def test_pictures_of_a_pipeline_have_their_size_and_differ() -> None:
    source = open_source(f"gst://{BALL}")
    assert (source.name, source.live, source.fps) == ("gst://videotestsrc", True, 15.0)
    frames = [item for item in itertools.islice(source.frames, 3) if isinstance(item, Frame)]
    source.frames.close()
    assert [frame.image.shape for frame in frames] == [(241, 322, 3)] * 3
    assert frames[0].image.flags.c_contiguous
    assert (frames[0].image != frames[2].image).any()
    assert [frame.index for frame in frames] == [0, 1, 2]
    assert children(os.getpid()) == []


@real
def test_a_pipeline_is_not_among_the_arguments_that_others_can_list() -> None:
    source = open_source(f"gst://{BALL}")
    [child] = children(os.getpid())
    assert b"videotestsrc" not in Path(f"/proc/{child}/cmdline").read_bytes()
    source.frames.close()  # before its first picture was taken
    assert children(os.getpid()) == []


@real
def test_colours_and_rows_are_where_they_belong() -> None:
    source = open_source(
        "gst://videotestsrc pattern=solid-color foreground-color=0xff0a1428 "
        "! video/x-raw,format=RGB,width=5,height=3"
    )
    frame = next(source.frames)
    source.frames.close()
    assert isinstance(frame, Frame)
    assert frame.image.reshape(-1, 3).tolist() == [[0x28, 0x14, 0x0A]] * 15


@real
@pytest.mark.parametrize(
    ("pipeline", "kind", "said"),
    [
        ("nosuch", UsageError, 'not valid: no element "nosuch"'),
        ("", UsageError, "not valid"),
        ("videotestsrc ! fakesink", UsageError, "could not link fakesink"),
        ("videotestsrc num-buffers=0", DataError, "has ended"),
        ("filesrc location=/nope ! decodebin", DataError, "broke off: Resource not found"),
    ],
)
def test_a_pipeline_that_gives_nothing_says_why(
    pipeline: str, kind: type[DadEdgeError], said: str
) -> None:
    with pytest.raises(kind, match=said) as caught:
        open_source(f"gst://{pipeline}")
    assert "gst-launch-1.0" in caught.value.next_step
    assert children(os.getpid()) == []


@real
def test_a_csi_camera_off_a_jetson_says_what_to_write() -> None:
    with pytest.raises(UsageError, match="nvarguscamerasrc") as caught:
        open_source("csi://0?width=1280&height=720&fps=30")
    assert "gst://" in caught.value.next_step


@real
def test_the_end_of_a_pipeline_is_an_error_after_its_pictures() -> None:
    source = open_source("gst://videotestsrc num-buffers=1")
    assert isinstance(next(source.frames), Frame)
    with pytest.raises(DataError, match="has ended"):
        next(source.frames)
    assert children(os.getpid()) == []


@real
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_pipeline_that_dies_or_hangs_is_an_error_and_leaves_no_process(
    number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = open_source(f"gst://{BALL}")
    next(source.frames)
    monkeypatch.setattr(gstreamer, "READ_S", 0.5)
    monkeypatch.setattr(gstreamer, "_END_S", 0.1)
    [child] = children(os.getpid())
    os.kill(child, number)
    with pytest.raises(DataError, match=r"died with code -9|gives no picture any more"):
        list(itertools.islice(source.frames, 1000))
    wait(lambda: children(os.getpid()) == [])


@real
def test_a_pipeline_does_not_outlive_the_program() -> None:
    code = f"""
import time
from dad_edge.stream.sources import open_source
source = open_source({f"gst://{BALL}"!r})
next(source.frames)
print("ready", flush=True)
time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"ready\n"
        [child] = children(program.pid)
        program.kill()
    wait(lambda: child not in pipelines())


def test_without_pygobject_the_packages_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    bare = tmp_path / "python3"  # `-S` leaves out all that was installed
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n', encoding="utf-8")
    bare.chmod(0o755)
    monkeypatch.setattr(gstreamer, "_python", lambda: str(bare))
    with pytest.raises(MissingDependency, match="needs GStreamer and PyGObject") as caught:
        open_source(f"gst://{BALL}")
    assert "python3-gi" in caught.value.next_step


def test_a_pipeline_has_no_end_of_its_own() -> None:
    assert lasts(f"gst://{BALL}")
    assert lasts("csi://0")
