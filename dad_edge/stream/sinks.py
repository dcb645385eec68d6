"""Where results go for people: an annotated video, a window."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2

from dad_edge.errors import DeviceError, StorageError, UsageError, writing
from dad_edge.machine.child import python_command
from dad_edge.machine.windows import INSTALL, window_toolkit
from dad_edge.packages import repair_of
from dad_edge.stream.annotate import Annotator
from dad_edge.stream.frames import Source
from dad_edge.stream.results import Result, Sink, Summary

_VIDEO_RESERVE = 8 << 20
_PROBE_S = 20.0
_PROBE = "import cv2; cv2.namedWindow('dad-edge'); cv2.destroyAllWindows()"
_KEYS_THAT_STOP = (27, ord("q"))


class VideoSink(Sink):
    """Annotated frames as an MP4 video."""

    def __init__(self, target: Path, source: Source, annotator: Annotator) -> None:
        """
        Args:
            target: file to write, replaced if it exists.
            source: gives the frame rate; a live source is written in real time.
            annotator: draws the frames.
        """
        self._target = target
        self._source = source
        self._annotator = annotator
        self._writer: cv2.VideoWriter | None = None
        self._written = 0
        self._first_time = 0.0

    def write(self, result: Result) -> None:
        picture = self._annotator.draw(result)
        if self._writer is None:
            self._writer = self._open(picture.shape[1], picture.shape[0])
            self._first_time = result.frame.time.timestamp()
        with writing(self._target):
            if shutil.disk_usage(self._target.parent).free < _VIDEO_RESERVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        for _ in range(self._repeats(result.frame.time.timestamp())):
            self._writer.write(picture)
            self._written += 1

    def close(self, summary: Summary) -> None:
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        with self._named_for_opencv() as name:
            check = cv2.VideoCapture(name)
        frames = check.get(cv2.CAP_PROP_FRAME_COUNT) if check.isOpened() else 0
        check.release()
        if frames < self._written:
            raise StorageError(
                f"{self._target} is incomplete: {frames:.0f} of {self._written} frames are in it.",
                "check the free space of the disk, then run the command again",
            )

    def _open(self, width: int, height: int) -> cv2.VideoWriter:
        with writing(self._target):
            self._target.write_bytes(b"")
        code = cv2.VideoWriter.fourcc(*"mp4v")
        with self._named_for_opencv() as name:
            writer = cv2.VideoWriter(name, code, self._source.fps, (width, height))
        if not writer.isOpened():
            raise DeviceError(
                f"this OpenCV {cv2.__version__} cannot write MPEG-4 video ({self._target}).",
                f"{repair_of('cv2')}, or leave out --video",
            )
        return writer

    @contextmanager
    def _named_for_opencv(self) -> Iterator[str]:
        """The file's name by the number of its open folder: OpenCV takes only names in UTF-8."""
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{folder}/{self._target.name}"
        finally:
            os.close(folder)

    def _repeats(self, timestamp: float) -> int:
        """How many times to write a frame, so that the video of a live source keeps real time."""
        if not self._source.live:
            return 1
        due = round((timestamp - self._first_time) * self._source.fps) + 1
        return min(max(1, due - self._written), round(self._source.fps))


class WindowSink(Sink):
    """Annotated frames in a window; `q`, Esc or closing it ends the run."""

    _TITLE = "dad-edge: q ends"

    def __init__(self, annotator: Annotator) -> None:
        """
        Raises:
            UsageError: no window can be opened here.
        """
        if window_toolkit() is None:
            raise UsageError("--window needs an OpenCV with windows; this one has none.", INSTALL)
        # A missing display aborts the whole process inside the window toolkit, so another
        # process tries first.
        if reason := _why_no_window():
            raise UsageError(
                f"--window cannot open a window here: {reason}.",
                "run it on a desktop, or leave out --window and use --out DIR --video",
            )
        self._annotator = annotator
        self._is_open = False

    def write(self, result: Result) -> None:
        if not self._is_open:
            cv2.namedWindow(self._TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            self._is_open = True
        cv2.imshow(self._TITLE, self._annotator.draw(result))
        key = cv2.waitKey(1) & 0xFF
        closed = cv2.getWindowProperty(self._TITLE, cv2.WND_PROP_VISIBLE) < 1
        self.wants_stop = self.wants_stop or closed or key in _KEYS_THAT_STOP

    def close(self, summary: Summary) -> None:
        if self._is_open:
            cv2.destroyAllWindows()


def _why_no_window() -> str:
    """Why a process that tries to open a window cannot; empty if it can."""
    try:
        probe = subprocess.run(
            python_command(_PROBE), capture_output=True, timeout=_PROBE_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"the display does not answer within {_PROBE_S:.0f} s"
    if probe.returncode == 0:
        return ""
    lines = [line for line in probe.stderr.decode(errors="replace").splitlines() if line]
    if not lines:
        return f"exit code {probe.returncode}"
    said = lines[-1] if lines[0].startswith("Traceback") else lines[0]
    return said.strip().rstrip(".")
