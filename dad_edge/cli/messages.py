"""What a command says to people: it never hinders the work, and other libraries add no noise.

Whoever reads the messages may leave or stop reading: a terminal is closed, a pipe breaks, the disk
of a log fills up. The work goes on and what cannot be written is lost.
"""

from __future__ import annotations

import io
import logging
import os
import select
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

from dad_edge.errors import printable
from dad_edge.machine.noise import NOISE
from dad_edge.stream.addresses import hide_secrets

SHOWN = 3
"""So many warnings of one kind are shown."""
_PATIENCE_MS = 1000
"""How long a message waits for a slow reader. A reader that did not read in time is not waited for
again until it reads."""


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays for machines."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):
            print(printable(hide_secrets(text)), file=sys.stderr, flush=True)


@contextmanager
def steady_messages() -> Iterator[None]:
    """Make stderr safe to write to, show the library's log there, and silence the decoders."""
    for descriptor in (0, 1, 2):
        _occupy(descriptor)
    _silence_decoders()
    earlier = sys.stderr
    sys.stderr = steady = SteadyStream(earlier) if earlier is not None else io.StringIO()
    NOISE.can_be_dropped = True
    handler = MessageHandler()
    log = logging.getLogger("dad_edge")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
        NOISE.can_be_dropped = False
        sys.stderr = earlier
        steady.close()


class SteadyStream(io.TextIOBase):
    """A text stream whose writes never fail and never wait long."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._reader_is_slow = False
        self._descriptor: int | None = None
        """A copy of stderr's own, so that the noise of decoders can be kept out of the original."""
        with suppress(OSError, ValueError):
            self._descriptor = os.dup(stream.fileno())

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        super().close()

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._stream.encoding or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        return "backslashreplace"

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        with suppress(OSError, ValueError):
            if self._descriptor is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._write_all(self._descriptor, text.encode(self.encoding, self.errors))
        return len(text)

    def _write_all(self, descriptor: int, content: bytes) -> None:
        """Write as much as a reader takes in time, in pieces that a pipe accepts whole."""
        while content and self._takes_more(descriptor):
            written = os.write(descriptor, content[: select.PIPE_BUF])
            content = content[written:]

    def _takes_more(self, descriptor: int) -> bool:
        poll = select.poll()
        poll.register(descriptor, select.POLLOUT)
        self._reader_is_slow = not poll.poll(0 if self._reader_is_slow else _PATIENCE_MS)
        return not self._reader_is_slow


class MessageHandler(logging.Handler):
    """Shows what the library logs, the same way as every message of a command.

    Every warning is shown once, and only the first few of one kind.
    """

    def __init__(self) -> None:
        super().__init__()
        self._texts: set[str] = set()
        self._of_kind: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if record.levelno <= logging.INFO:
            say(text)
            return
        if text in self._texts or self._of_kind[record.msg] >= SHOWN:
            return
        self._texts.add(text)
        self._of_kind[record.msg] += 1
        say(f"{record.levelname.lower()}: {text}")
        if self._of_kind[record.msg] == SHOWN:
            say("warning: more of this kind are not shown.")


def _occupy(descriptor: int) -> None:
    """Put something into the place of a closed stdin, stdout or stderr.

    The next file that is opened would take its number otherwise, and whatever a C library says
    would be written into it.
    """
    try:
        os.fstat(descriptor)
    except OSError:
        with suppress(OSError):
            nothing = os.open(os.devnull, os.O_RDWR)
            if nothing != descriptor:
                os.dup2(nothing, descriptor)
                os.close(nothing)


def _silence_decoders() -> None:
    """Leave stderr to this program's own sentences, which report every failed read."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if "cv2" in sys.modules:  # it has read its environment already
        import cv2

        if hasattr(cv2, "setLogLevel"):  # OpenCV 4
            cv2.setLogLevel(0)
        elif hasattr(cv2, "utils"):  # and not the hull of a package that was removed
            cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)
