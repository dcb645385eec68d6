"""A thread that owns one inspector, so that one that hangs or fails holds up nobody else."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DadEdgeError, DeviceError
from dad_edge.machine.memory import give_back_freed_memory
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

    def __init__(self, images: Images, on_done: Callable[[], None] = lambda: None) -> None:
        """
        Args:
            images: (H,W,3) uint8 BGR each.
            on_done: called by the worker when `done` has become true.
        """
        self.images = images
        self._on_done = on_done
        self._inspections: list[Inspection] = []
        self._error: BaseException | None = None
        self._done = threading.Event()

    def finish(self, inspections: Sequence[Inspection] = ()) -> None:
        """Called by the worker: the results are here."""
        self._inspections = list(inspections)
        self._done.set()
        self._on_done()

    def fail(self, error: BaseException) -> None:
        """Called by the worker: there are no results.

        The trace is not kept. Its frames hold the job, which holds the error, and the inspector
        with all its memory would live until the next collection of such rings.
        """
        _log.debug("a job of an engine failed", exc_info=error)
        self._error = error.with_traceback(None)
        self.finish()

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
            DeviceError: they did not come in time, or there are fewer than frames.
            BaseException: what the inspector raised.
        """
        if not self._done.wait(timeout_s):
            raise DeviceError(
                "the engine gave no answer in time.",
                "run 'dad-edge doctor'; look at the load and the GPU of this machine",
            )
        if self._error is not None:
            try:
                raise self._error
            finally:
                del self  # the trace holds this frame; see `fail`
        if len(self._inspections) != len(self.images):
            raise DeviceError("the engine lost a frame.", "run 'dad-edge doctor'")
        return self._inspections


class Worker:
    """Opens an inspector in a thread of its own and inspects there.

    With several lanes it opens as many inspectors, each in its thread, and each takes the next job.

    What hangs in a library cannot be ended. Such a thread is left alone: it takes no more jobs,
    and ends by itself if the library ever returns.
    """

    def __init__(self, name: str, open_inspector: Callable[[], Inspects], lanes: int = 1) -> None:
        """
        Args:
            name: of the engine, for the threads.
            open_inspector: called in each of the threads.
            lanes: how many there are.
        """
        self.backend = ""
        """What computes, in words; known once it is open."""
        self.depth = 1
        """Jobs that may be under way at once."""
        self._open = open_inspector
        self._lanes = lanes
        self._left_to_open = lanes
        self._lock = threading.Lock()
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._opened = Job(())
        self._threads = [
            threading.Thread(target=self._run, name=f"engine {name}", daemon=True)
            for _ in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def wait_until_open(self, timeout_s: float) -> None:
        """Wait for all inspectors.

        Raises:
            DeviceError: they did not open in time.
            BaseException: what the opening raised.
        """
        self._opened.wait(timeout_s)

    @property
    def is_open(self) -> bool:
        """Whether `wait_until_open` returns at once."""
        return self._opened.done

    def submit(self, images: Images, on_done: Callable[[], None] = lambda: None) -> Job:
        """Have frames inspected; `on_done` is called in the worker's thread."""
        job = Job(images, on_done)
        self._jobs.put(job)
        return job

    @property
    def alive(self) -> bool:
        """Whether a thread of it still runs, be it that it hangs."""
        return any(thread.is_alive() for thread in self._threads)

    def close(self, timeout_s: float = 0.0) -> None:
        """Take no more jobs and close the inspectors, or leave them alone if that takes longer."""
        for _ in self._threads:
            self._jobs.put(None)
        until = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _run(self) -> None:
        """Thread of a lane."""
        try:
            inspector = self._open()
        except BaseException as error:
            self._opened.fail(error)
            return
        with self._lock:
            self._left_to_open -= 1
            is_last = self._left_to_open == 0
        if is_last:
            side_by_side = f", {self._lanes} side by side" if self._lanes > 1 else ""
            self.backend = f"{inspector.backend}{side_by_side}"
            self.depth = self._lanes * max(1, inspector.depth)
            self._opened.finish()
        self._work(inspector)
        try:
            inspector.close()
        except Exception as error:  # of an engine that failed; another one runs already
            _log.debug("an engine could not be closed: %s", error)
        del inspector
        give_back_freed_memory()

    def _work(self, inspector: Inspects) -> None:
        depth = max(1, inspector.depth)
        under_way: deque[tuple[Job, Any]] = deque()
        open_for_jobs = True
        while open_for_jobs or under_way:
            job: Job | None = None
            if open_for_jobs and len(under_way) < depth:
                with suppress(queue.Empty):
                    job = self._jobs.get(block=not under_way)
                    open_for_jobs = job is not None
            if job is not None:
                try:
                    under_way.append((job, inspector.submit(job.images)))
                except BaseException as error:
                    job.fail(error)
            elif under_way:
                oldest, submission = under_way.popleft()
                try:
                    oldest.finish(inspector.collect(submission))
                except BaseException as error:
                    oldest.fail(error)


def words_of(error: BaseException) -> str:
    """What went wrong in an engine, in a few words."""
    text = error.message if isinstance(error, DadEdgeError) else str(error) or repr(error)
    return text.strip().partition("\n")[0].rstrip(".") or type(error).__name__
