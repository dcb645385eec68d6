"""Pictures that machines post: each is inspected in its turn, and whoever posted it is answered."""

from __future__ import annotations

import itertools
import queue
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from dataclasses import dataclass, field

from dad_edge.errors import DeviceError
from dad_edge.line.seams import Judged
from dad_edge.stream.frames import Frames, Source, Unreadable
from dad_edge.stream.paths import read_item

MOST_WAITING = 8
"""Pictures of a camera that may wait; more are refused at once."""


@dataclass(frozen=True, slots=True, eq=False)
class _Post:
    name: str
    content: bytes
    answer: Future[Judged] = field(default_factory=Future)


class Posted:
    """The source of a camera whose pictures are posted, and the way back for its verdicts."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Post] = queue.Queue(MOST_WAITING)
        self._asked: dict[str, Future[Judged]] = {}
        self._numbers = itertools.count(1)

    def open(self, uri: str | int, bit_depth: int | None) -> Source:
        """The source; it has no end.

        Args:
            uri: as the user named it.
            bit_depth: of the model, for 16-bit images.
        """

        def frames() -> Frames:
            for index in itertools.count():
                post = self._waiting.get()
                yield read_item(post.name, post.name, index, bit_depth, post.content)

        return Source(str(uri), frames(), waits=True)

    def inspect(self, content: bytes, timeout_s: float) -> Judged:
        """Hand over a picture and wait for its verdict.

        Args:
            content: of a picture file, as `read_frame` takes it.
            timeout_s: longest wait; a verdict that comes later is recorded all the same.

        Raises:
            DataError: the picture cannot be read.
            DeviceError: too many pictures wait, or no verdict came in time.
        """
        post = _Post(f"post-{next(self._numbers):09d}", content)
        self._asked[post.name] = post.answer
        try:
            self._waiting.put_nowait(post)
            return post.answer.result(timeout_s)
        except queue.Full as error:
            raise DeviceError(
                f"{MOST_WAITING} pictures of this camera wait already.", "send fewer, or try again"
            ) from error
        except NoAnswer as error:
            raise DeviceError(
                f"{post.name} has no verdict after {timeout_s:g} s.",
                "look at /readyz; the verdict is recorded if it still comes",
            ) from error
        finally:
            del self._asked[post.name]

    def answered(self, judged: Judged) -> None:
        """Pass a verdict on to whoever waits for it."""
        if answer := self._asked.get(judged.result.frame.name):
            answer.set_result(judged)

    def failed(self, missing: Unreadable) -> None:
        """Tell whoever waits that the picture could not be read."""
        if answer := self._asked.get(missing.name):
            answer.set_exception(missing.error)
