"""A thread that owns one inspector, so that one that hangs or fails holds up nobody else."""

from __future__ import annotations

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DeviceError
from dad_edge.runtime.seams import Inspection

_log = logging.getLogger(__name__)

Images = Sequence[NDArray[np.uint8]]


class Inspects(Protocol):
    """The part of an inspector that a worker needs."""

    @property
    def backend(self) -> str:
        """What computes, in words."""
        ...

    @property
    def depth(self) -> int:
        """Submissions that may be under way at once."""
        ...

    def submit(self, frames: Images) -> Any:
        """Start an inspection."""
        ...

    def collect(self, submission: Any) -> list[Inspection]:
        """Wait for its results."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


class Job:
    """Frames that a worker inspects together."""

    def __init__(self, images: Images) -> None:
        self.images = images
        self._inspections: list[Inspection] = []
        self._error: BaseException | None = None
        self._done = threading.Event()

    def finish(
        self, inspections: list[Inspection] | None = None, error: BaseException | None = None
    ) -> None:
        """Called by the worker."""
        self._inspections, self._error = inspections or [], error
        self._done.set()

    @property
    def done(self) -> bool:
        """Whether `wait` returns at once."""
        return self._done.is_set()

    def pause(self, timeout_s: float) -> None:
        """Wait until it is done, but no longer than so many seconds."""
        self._done.wait(timeout_s)

    def wait(self, timeout_s: float) -> list[Inspection]:
        """The inspections, one for each frame.

        Raises:
            DeviceError: they did not come in time.
            BaseException: what the inspector raised.
        """
        if not self._done.wait(timeout_s):
            raise DeviceError(
                "the engine gave no answer in time.",
                "run 'dad-edge doctor'; look at the load and the GPU of this machine",
            )
        if self._error is not None:
            raise self._error
        if len(self._inspections) != len(self.images):
            raise DeviceError("the engine lost a frame.", "run 'dad-edge doctor'")
        return self._inspections


class Worker:
    """Opens an inspector in a thread of its own and inspects there.

    What hangs in a library cannot be ended. Such a thread is left alone: it takes no more jobs,
    and ends by itself if the library ever returns.
    """

    def __init__(self, name: str, open_inspector: Callable[[], Inspects]) -> None:
        """
        Args:
            name: of the engine, for the thread.
            open_inspector: called in the thread.
        """
        self.backend = ""
        """What computes, in words; known once it is open."""
        self.depth = 1
        """Jobs that may be under way at once."""
        self._open = open_inspector
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._opened = Job(())
        self._thread = threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
        self._thread.start()

    def wait_until_open(self, timeout_s: float) -> None:
        """Wait for the inspector.

        Raises:
            DeviceError: it did not open in time.
            BaseException: what the opening raised.
        """
        self._opened.wait(timeout_s)

    @property
    def is_open(self) -> bool:
        """Whether `wait_until_open` returns at once."""
        return self._opened.done

    def submit(self, images: Images) -> Job:
        """Have frames inspected."""
        job = Job(images)
        self._jobs.put(job)
        return job

    @property
    def alive(self) -> bool:
        """Whether its thread still runs, be it that it hangs."""
        return self._thread.is_alive()

    def close(self, timeout_s: float = 0.0) -> None:
        """Take no more jobs and close the inspector, or leave it alone if that takes longer."""
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        try:
            inspector = self._open()
        except BaseException as error:
            self._opened.finish(error=error)
            return
        self.backend, self.depth = inspector.backend, max(1, inspector.depth)
        self._opened.finish()
        under_way: deque[tuple[Job, Any]] = deque()
        open_for_jobs = True
        while open_for_jobs or under_way:
            job: Job | None = None
            if open_for_jobs and len(under_way) < self.depth:
                with suppress(queue.Empty):
                    job = self._jobs.get(block=not under_way)
                    open_for_jobs = job is not None
            if job is not None:
                try:
                    under_way.append((job, inspector.submit(job.images)))
                except BaseException as error:
                    job.finish(error=error)
            elif under_way:
                oldest, submission = under_way.popleft()
                try:
                    oldest.finish(inspector.collect(submission))
                except BaseException as error:
                    oldest.finish(error=error)
        try:
            inspector.close()
        except Exception as error:  # of an engine that failed; another one runs already
            _log.debug("an engine could not be closed: %s", error)
