"""Pictures of a GStreamer pipeline, which runs in a process of its own.

A driver that hangs or a plugin that crashes ends that process, not this one.
"""

from __future__ import annotations

import itertools
import select
import shutil
import subprocess
import sys
import time
import weakref
from contextlib import suppress
from importlib.util import find_spec
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DadEdgeError, DataError, MissingDependency, UsageError, printable
from dad_edge.stream import gstreamer_child
from dad_edge.stream.addresses import hide_secrets, without_secrets
from dad_edge.stream.frames import Frame, Frames, Source, now
from dad_edge.stream.gstreamer_child import ABSENT, ENDED, HEAD, REFUSED

OPEN_S, READ_S = 20.0, 10.0
"""Longest time to the first picture, and from one to the next."""

_DEFAULT_FPS = 30.0
_MOST_PIXELS = 1 << 28
_PIPE_BYTES = 1 << 20
_END_S = 2.0
_LOOK = "try it with gst-launch-1.0, where it needs a sink at its end; here it is written without"
_INSTALL = (
    "on Debian, Ubuntu or JetPack, apt install python3-gi gir1.2-gstreamer-1.0 "
    "gstreamer1.0-plugins-base gstreamer1.0-plugins-good"
)


def open_pipeline(uri: str, pipeline: str, look: str = _LOOK) -> Source:
    """The newest pictures of a pipeline; those that come faster than they are taken are dropped.

    Args:
        uri: of the source, for its name.
        pipeline: as `gst-launch-1.0` takes it, without a sink at its end.
        look: what to do if it does not work.

    Raises:
        UsageError: it cannot be built.
        MissingDependency: there is no GStreamer, or no PyGObject.
        DataError: it gives no picture.
    """
    name = without_secrets(uri)
    child = _Child(pipeline, name, look)
    try:
        first = child.picture(OPEN_S)
    except BaseException:
        child.close()
        raise

    def frames() -> Frames:
        try:
            picture = first
            for index in itertools.count():
                yield Frame(picture, f"{name}#{index:06d}", index, now())
                picture = child.picture(READ_S)
        finally:
            child.close()

    return Source(name, frames(), live=True, fps=child.fps)


class _Child:
    """The process of a pipeline."""

    def __init__(self, pipeline: str, name: str, look: str) -> None:
        self.fps = _DEFAULT_FPS
        self._name = name
        self._look = look
        self._process = subprocess.Popen(
            [_python(), "-I", gstreamer_child.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            pipesize=_PIPE_BYTES,
            start_new_session=True,  # Ctrl-C is for the parent, which ends this one
        )
        self.close = weakref.finalize(self, _end, self._process)
        """Ends the process; so does it if nobody wants its pictures any more."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError), self._process.stdin as given:  # its end is told later
            given.write(pipeline.encode())  # no argument: whoever lists processes sees those

    def picture(self, timeout_s: float) -> NDArray[np.uint8]:
        """The next picture, (H,W,3) uint8, BGR.

        Raises:
            DadEdgeError: there is none, and why.
        """
        until = time.monotonic() + timeout_s
        head = bytearray(HEAD.size)
        self._fill(memoryview(head), until)
        width, height, row, *rate = HEAD.unpack(head)
        if width == 0:
            self._tell_end(height, row, until)
        if not 0 < width * height <= _MOST_PIXELS or row < 3 * width:
            raise DataError(f"{self._name} gives {width}x{height} pictures.", self._look)
        if rate[0] and rate[1]:
            self.fps = rate[0] / rate[1]
        rows = np.empty((height, row), np.uint8)
        self._fill(rows.data.cast("B"), until)
        return np.ascontiguousarray(rows[:, : 3 * width].reshape(height, width, 3))

    def _fill(self, wanted: memoryview, until: float) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        while wanted:
            if not select.select([pipe], [], [], max(0.0, until - time.monotonic()))[0]:
                raise DataError(f"{self._name} gives no picture any more.", self._look)
            count = pipe.readinto(wanted)  # type: ignore[attr-defined]
            if not count:
                self.close()
                code = self._process.returncode
                raise DataError(f"the process of {self._name} died with code {code}.", self._look)
            wanted = wanted[count:]

    def _tell_end(self, reason: int, length: int, until: float) -> NoReturn:
        text = bytearray(length)
        self._fill(memoryview(text), until)
        said = hide_secrets(printable(text.decode(errors="replace"))).strip().rstrip(".")
        raise self._error(reason, said)

    def _error(self, reason: int, said: str) -> DadEdgeError:
        if reason == ABSENT:
            return MissingDependency(
                f"{self._name} needs GStreamer and PyGObject: {said}.", _INSTALL
            )
        if reason == REFUSED:
            return UsageError(f"the pipeline of {self._name} is not valid: {said}.", self._look)
        if reason == ENDED:
            return DataError(f"{self._name} has ended.", self._look)
        return DataError(f"{self._name} broke off: {said}.", self._look)


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdout is not None
    process.stdout.close()
    for end in (process.terminate, process.kill):
        end()
        with suppress(subprocess.TimeoutExpired):  # one that hangs in a driver is left alone
            process.wait(_END_S)
            return


def _python() -> str:
    """A Python that has PyGObject: this one, or the system's."""
    has_it = find_spec("gi") is not None
    return sys.executable if has_it else shutil.which("python3", path="/usr/bin") or sys.executable
