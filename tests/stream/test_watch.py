from __future__ import annotations

import itertools
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from dad_edge.errors import DadEdgeError, DataError
from dad_edge.stream import watch
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable, now
from dad_edge.stream.sources import open_source
from dad_edge.stream.watch import Backoff, lasts, reopened, watched

SERVER = Path(__file__).parents[1] / "support" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"


def frame(index: int, value: int | None = None) -> Frame:
    image = np.full((8, 8, 3), (index if value is None else value) % 256, np.uint8)
    return Frame(image, f"cam#{index}", index, now())


def nothing() -> Frames:
    yield from ()


def taken_until(error: str, frames: Frames) -> list[Frame | Unreadable]:
    """What a source gives before it ends with an error."""
    taken: list[Frame | Unreadable] = []
    with pytest.raises(DataError, match=error):
        taken.extend(frames)  # what came before the error stays
    return taken


def source(frames: Frames, live: bool = True) -> Source:
    return Source("cam", frames, live=live)


def test_frames_and_their_end_pass_through() -> None:
    def frames() -> Frames:
        for index in range(3):
            yield frame(index)
            time.sleep(0.02)
        raise DataError("it broke off.", "look")

    taken = taken_until("it broke off", watched(source(frames())).frames)
    indices = [item.index for item in taken]
    assert indices == sorted(set(indices))
    assert indices[-1] == 2
    assert list(watched(source(nothing())).frames) == []


def test_a_source_that_is_not_live_is_left_alone() -> None:
    plain = source(nothing(), live=False)
    assert watched(plain) is plain


def test_a_driver_that_hangs_is_left_behind() -> None:
    hangs = threading.Event()

    def frames() -> Frames:
        yield frame(0)
        hangs.wait()

    taken = taken_until("no picture for 0 s", watched(source(frames()), silence_s=0.3).frames)
    assert len(taken) == 1
    hangs.set()


def test_pictures_that_cannot_be_read_are_handed_on_and_are_no_pictures() -> None:
    def frames() -> Frames:
        for index in itertools.count():
            yield Unreadable(f"{index}", index, now(), DataError("damaged.", "look"))
            time.sleep(0.01)

    taken = taken_until("no picture", watched(source(frames()), silence_s=0.3).frames)
    assert len(taken) > 1


def test_the_very_same_picture_again_and_again_is_no_picture() -> None:
    def frames(frozen_from: int) -> Frames:
        for index in range(2000):
            yield frame(index, min(index, frozen_from))
            time.sleep(0.002)

    taken_until("very same picture", watched(source(frames(20)), frozen_s=0.3).frames)
    moving = itertools.islice(watched(source(frames(10**6)), frozen_s=0.3).frames, 300)
    assert len(list(moving)) == 300


def test_a_consumer_that_is_slow_gets_the_newest_frame_and_no_alarm() -> None:
    def frames() -> Frames:
        for index in range(100):
            yield frame(index)
            time.sleep(0.01)

    frames_of = watched(source(frames()), silence_s=0.5).frames
    next(frames_of)
    time.sleep(0.8)
    assert next(frames_of).index > 20


def test_a_source_that_ends_is_opened_again_with_numbers_that_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "FIRST_S", 0.001)
    monkeypatch.setattr(watch, "LONGEST_S", 0.01)
    openings = 0

    def opening() -> Source:
        nonlocal openings
        openings += 1
        if openings in (2, 3):
            raise DataError("it does not answer.", "look")

        def frames() -> Frames:
            yield frame(0, openings)
            time.sleep(0.05)
            yield frame(1, openings + 100)
            time.sleep(0.05)
            raise DataError("it broke off.", "look")

        return source(frames())

    both = reopened(opening(), opening, lambda: openings > 5)
    taken = list(both.frames)
    assert [item.index for item in taken] == list(range(len(taken)))
    assert [int(item.image[0, 0, 0]) for item in taken[:4]] == [1, 101, 4, 104]  # type: ignore[union-attr]


def test_waiting_ends_when_the_line_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "FIRST_S", 3600.0)
    monkeypatch.setattr(watch, "LONGEST_S", 3600.0)
    stopping = threading.Event()
    gone = reopened(source(nothing()), lambda: source(nothing()), stopping.is_set)
    threading.Timer(0.3, stopping.set).start()
    assert list(gone.frames) == []


def test_pauses_double_up_to_a_limit() -> None:
    backoff = Backoff()
    pauses = [backoff.next_s() for _ in range(12)]
    for pause, most in zip(pauses, (0.5, 1, 2, 4, 8, 16, 30, 30, 30, 30, 30, 30), strict=True):
        assert 0.75 * most <= pause <= most
    backoff.reset()
    assert backoff.next_s() <= 0.5


@pytest.mark.parametrize(("uri", "expected"), [
    (0, True), ("/dev/video0", True), ("rtsp://camera/1", True), ("RTSP://camera", True),
    ("v4l2:///dev/video1", True), ("demo://", False), ("parts", False), ("watch://parts", False),
    ("-", False),
])  # fmt: skip
def test_what_has_no_end_of_its_own(uri: str | int, expected: bool) -> None:
    assert lasts(uri) == expected


def can_serve() -> bool:
    if not Path(PYTHON).exists() or shutil.which("gst-inspect-1.0") is None:
        return False
    needs = "import gi; gi.require_version('GstRtspServer', '1.0')"
    ends = subprocess.run([PYTHON, "-c", needs], capture_output=True, check=False)
    return ends.returncode == 0


class RtspServer:
    """A real RTSP server that can be killed and started again."""

    def __init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            self._port = taken.getsockname()[1]
        self.address = f"rtsp://127.0.0.1:{self._port}/cam"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [PYTHON, str(SERVER), str(self._port)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == b"ready\n"

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            assert self._process.stdout is not None
            self._process.stdout.close()


@pytest.fixture
def server() -> Iterator[RtspServer]:
    running = RtspServer()
    yield running
    running.kill()


def until(frames: Frames, condition: Callable[[Frame], bool]) -> Frame:
    started = time.monotonic()
    for item in frames:
        assert time.monotonic() - started < 120
        if isinstance(item, Frame) and condition(item):
            return item
    raise AssertionError("the source has ended")


@pytest.mark.skipif(not can_serve(), reason="Debian's gir1.2-gst-rtsp-server is not installed")
def test_a_real_rtsp_server_that_is_killed_and_comes_back(server: RtspServer) -> None:
    server.start()
    first = open_source(server.address)
    frames = reopened(first, lambda: open_source(server.address)).frames
    seen = until(frames, lambda item: item.index >= 5)
    assert seen.image.shape == (240, 320, 3)
    for _ in range(2):
        server.kill()
        killed = now()
        threading.Timer(1.0, server.start).start()
        back = until(frames, lambda item, killed=killed: (item.time - killed).total_seconds() > 1.0)
        assert back.index > seen.index
        seen = back
    frames.close()


def test_an_address_that_nobody_answers_is_an_error_soon() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, says nothing
        started = time.monotonic()
        with pytest.raises(DadEdgeError, match="cannot open"):
            open_source(f"rtsp://127.0.0.1:{silent.getsockname()[1]}/cam")
        assert time.monotonic() - started < 60
