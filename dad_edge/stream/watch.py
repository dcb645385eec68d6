"""Live sources that are looked after: silent and frozen ones end, ended ones are opened again."""

from __future__ import annotations

import logging
import random
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import replace

from dad_edge.errors import DadEdgeError, DataError
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable
from dad_edge.stream.handover import Handover
from dad_edge.stream.sources import NETWORK_SCHEMES

SILENCE_S = 10.0
"""A live source that gives no picture for so long has failed, whatever its driver says."""
FROZEN_S = 30.0
"""So has one that gives the very same picture for so long: noise alone makes pictures differ."""
FIRST_S, LONGEST_S = 0.5, 30.0
"""Of the pauses before a source is opened again."""
_POLL_S = 0.1
_ROWS = 8
"""Every so many rows of a picture are compared with the picture before it."""
_LASTING = ("camera", "v4l2", "csi", "gst", *NETWORK_SCHEMES)

_log = logging.getLogger(__name__)


def lasts(source: str | int) -> bool:
    """Whether a source has no end of its own, as cameras and streams; files and folders have."""
    if isinstance(source, int) or source.startswith("/dev/"):
        return True
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() in _LASTING


class Backoff:
    """Pauses that double up to a limit, each a little shorter by chance, until something comes."""

    def __init__(self) -> None:
        self._tries = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        pause_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._tries, 16))
        self._tries += 1
        return pause_s * random.uniform(0.75, 1.0)

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._tries = 0


def watched(source: Source, silence_s: float = SILENCE_S, frozen_s: float = FROZEN_S) -> Source:
    """A live source that ends with a `DataError` when it is silent or frozen.

    It is read in a thread of its own, which is left behind if its driver hangs; frames that come
    too fast give way to newer ones there. A source that is not live is given back as it is.

    Args:
        source: opened source.
        silence_s: longest time without a picture.
        frozen_s: longest time with the very same picture.
    """
    return replace(source, frames=_watch(source, silence_s, frozen_s)) if source.live else source


def _watch(source: Source, silence_s: float, frozen_s: float) -> Frames:
    handed: Handover[Frame | Unreadable] = Handover(1, newest_only=True)

    def read() -> None:
        error: BaseException | None = None
        try:
            for item in source.frames:
                if not handed.put(item, keep=isinstance(item, Unreadable)):
                    break
        except BaseException as caught:  # raised again where the frames are taken
            error = caught
        handed.end(error)
        source.frames.close()

    threading.Thread(target=read, name=f"watched {source.name}", daemon=True).start()
    seen, seen_at, picture_at = -1, time.monotonic(), time.monotonic()
    try:
        while True:
            item = handed.get(_POLL_S)
            if isinstance(item, Frame):
                looks = zlib.crc32(item.image[::_ROWS].tobytes())
                if looks != seen:
                    seen, seen_at = looks, time.monotonic()
                elif time.monotonic() - seen_at > frozen_s:
                    raise DataError(
                        f"{source.name} gives the very same picture since {frozen_s:.0f} s.",
                        "switch the camera off and on",
                    )
                yield item
                picture_at = time.monotonic()  # whoever takes frames may be slow
            elif item is not None:
                yield item
            elif handed.finished():
                if handed.error is not None:
                    raise handed.error
                return
            if time.monotonic() - picture_at > silence_s:
                raise DataError(
                    f"{source.name} has given no picture for {silence_s:.0f} s.",
                    "check its power, its cable and the network",
                )
    finally:
        handed.end()


def reopened(
    first: Source,
    open_again: Callable[[], Source],
    stopping: Callable[[], bool] = lambda: False,
) -> Source:
    """A live source that is opened again, for ever, whenever it ends.

    Args:
        first: the source, opened.
        open_again: opens it anew.
        stopping: looked at while nothing comes; ends the frames.
    """

    def frames() -> Frames:
        source, backoff, count = first, Backoff(), 0
        is_away = False
        while not stopping():
            try:
                for item in watched(source).frames:
                    if isinstance(item, Frame):
                        if is_away:
                            _log.warning("%s is back.", source.name)
                        is_away = False
                        backoff.reset()
                    # Positions go on: a frame of a later opening is no frame of the first one.
                    yield replace(item, index=count)
                    count += 1
                why = f"{source.name} has ended."
            except DadEdgeError as error:
                why = error.message
            is_away = True
            while not stopping():
                pause_s = backoff.next_s()
                _log.warning("%s It is opened again in %.1f s.", why, pause_s)
                until = time.monotonic() + pause_s
                while time.monotonic() < until and not stopping():
                    time.sleep(_POLL_S)
                try:
                    source = open_again()
                    break
                except DadEdgeError as error:
                    why = error.message

    return replace(first, frames=frames())
