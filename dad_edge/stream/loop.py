"""The line: a reader thread, the inspection, and a thread that writes results.

The reader waits when files come faster than they are inspected; a live source keeps only its
newest frame instead, and the dropped ones are counted. Results are never dropped. The inspection
runs in the caller's thread, which is the one that opened the backend. On a GPU, a frame that is
already there is copied in while the one before it is computed.
"""

from __future__ import annotations

import logging
import statistics
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DadEdgeError, DataError, Interrupted
from dad_edge.machine.signals import StopRequest
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame, Source, Unreadable
from dad_edge.stream.handover import Handover
from dad_edge.stream.results import Result, Sink, Summary

_READ_AHEAD = 4
_RESULTS_WAITING = 8
_TIMINGS_KEPT = 10_000
_POLL_S = 0.1
_JOIN_S = 5.0

_log = logging.getLogger(__name__)


class Inspects(Protocol):
    """The part of an inspector that the loop needs."""

    @property
    def depth(self) -> int:
        """Submissions that may be under way at once."""
        ...

    def submit(self, frames: Sequence[NDArray[np.uint8]]) -> Any:
        """Start an inspection."""
        ...

    def collect(self, submission: Any) -> list[Inspection]:
        """Wait for its results."""
        ...


def run_stream(
    source: Source,
    inspector: Inspects,
    sinks: Sequence[Sink],
    *,
    max_frames: int | None = None,
    stop: StopRequest | None = None,
) -> Summary:
    """Inspect a source frame by frame and give every result to every sink.

    All sinks are closed with the summary before this function returns or raises.

    Args:
        source: opened source; it is closed at the end.
        inspector: inspects one frame at a time.
        sinks: take the results in order.
        max_frames: end after so many frames.
        stop: looked at between two frames.

    Raises:
        DataError: the source broke off, or some of its pictures could not be read.
        StorageError: a sink could not write.
        Interrupted: `stop` was requested.
    """
    run = _Run(source, inspector, sinks, stop or StopRequest())
    summary = run.run(max_frames)
    if run.error is not None:
        raise run.error
    if run.stop.requested:
        raise Interrupted(
            f"stopped by a signal after {summary.frames} frames; their results are complete.",
            "run the command again to go on"
            if source.live
            else "run the command again to inspect the source from its beginning",
            run.stop.signal_number,
        )
    if run.first_unreadable is not None:
        raise DataError(
            f"{summary.unreadable} of {summary.frames + summary.unreadable} pictures could not be "
            f"read; the first: {run.first_unreadable.message}",
            f"the results name them all; {run.first_unreadable.next_step}",
        )
    return summary


class _Run:
    """State that the three threads of one run share."""

    def __init__(
        self, source: Source, inspector: Inspects, sinks: Sequence[Sink], stop: StopRequest
    ) -> None:
        self.stop = stop
        self.error: BaseException | None = None
        self.first_unreadable: DadEdgeError | None = None
        self._started = 0.0
        self._source = source
        self._inspector = inspector
        self._sinks = sinks
        self._summary = Summary(verdicts={"good": 0, "defect": 0, "invalid": 0})
        self._latencies: deque[float] = deque(maxlen=_TIMINGS_KEPT)
        self._stages: deque[dict[str, float]] = deque(maxlen=_TIMINGS_KEPT)
        self._frames: Handover[tuple[Frame | Unreadable, float]] = Handover(
            _READ_AHEAD, newest_only=source.live
        )
        self._results: Handover[Result | Unreadable] = Handover(_RESULTS_WAITING)
        self._inspected = threading.Event()
        self._on_their_way: deque[Callable[[], Result]] = deque()
        """Functions that wait for a frame whose inspection has begun, oldest first."""

    def run(self, max_frames: int | None) -> Summary:
        self._started = time.perf_counter()
        reader = threading.Thread(target=self._read, name="reader", daemon=True)
        writer = threading.Thread(target=self._write, name="writer", daemon=True)
        reader.start()
        writer.start()
        error: BaseException | None = None
        try:
            self._inspect_all(max_frames)
        except BaseException as caught:
            error = caught
        self._frames.end()
        self._results.end()
        self._inspected.set()
        writer.join()
        reader.join(_JOIN_S)
        self.error = error or self._results.error
        return self._summary

    def _read(self) -> None:
        """Reader thread."""
        try:
            for item in self._source.frames:
                # A live source drops frames for newer ones, but never the report of a failed read.
                keep = isinstance(item, Unreadable)
                if not self._frames.put((item, time.perf_counter()), keep=keep):
                    break
            self._frames.end()
        except BaseException as error:
            self._frames.end(error)
        finally:
            self._source.frames.close()

    def _write(self) -> None:
        """Writer thread: all results, then the summary."""
        try:
            while not self._results.finished():
                item = self._results.get(_POLL_S)
                for sink in self._sinks if item is not None else ():
                    if isinstance(item, Unreadable):
                        sink.skip(item)
                    elif item is not None:
                        sink.write(item)
        except BaseException as error:
            self._results.end(error)
        self._inspected.wait()
        self._summarise(time.perf_counter() - self._started)
        for sink in self._sinks:
            self._close(sink)

    def _close(self, sink: Sink) -> None:
        try:
            sink.close(self._summary)
        except BaseException as error:
            self._results.end(error)

    def _inspect_all(self, max_frames: int | None) -> None:
        taken = 0
        while max_frames is None or taken < max_frames:
            if self.stop.requested or any(sink.wants_stop for sink in self._sinks):
                break
            if self._results.error is not None:
                return
            # A result that is under way waits for the next frame only if that one is there already.
            item = self._frames.get(0.0 if self._on_their_way else _POLL_S)
            if item is not None:
                taken += 1
                if not self._take(*item):
                    return
            elif self._on_their_way:
                if not self._finish(0):
                    return
            elif self._frames.finished():
                if self._frames.error is not None:
                    raise self._frames.error
                return
        self._finish(0)

    def _take(self, item: Frame | Unreadable, read_at: float) -> bool:
        """Start to inspect a frame and finish those before it; False if no more are wanted."""
        if isinstance(item, Unreadable):
            self._summary.unreadable += 1
            self.first_unreadable = self.first_unreadable or item.error
            return self._finish(0) and self._results.put(item)
        in_hand = time.perf_counter()
        try:
            submission = self._inspector.submit([item.image])
        except BaseException:
            self._finish(0)
            raise

        def collect(frame: Frame = item) -> Result:
            [inspection] = self._inspector.collect(submission)
            return self._result(frame, inspection, in_hand, read_at)

        self._on_their_way.append(collect)
        return self._finish(self._inspector.depth - 1)

    def _finish(self, left: int) -> bool:
        """Hand over results until only so many are under way; False if no more are wanted."""
        while len(self._on_their_way) > left:
            if not self._results.put(self._on_their_way.popleft()()):
                return False
        return True

    def _result(
        self, item: Frame, inspection: Inspection, in_hand: float, read_at: float
    ) -> Result:
        latency_ms = (time.perf_counter() - in_hand) * 1e3
        self._summary.frames += 1
        self._summary.verdicts[inspection.verdict] += 1
        self._latencies.append(latency_ms)
        self._stages.append(inspection.stage_ms)
        self._note_size(item, inspection.heat.shape[0])
        return Result(item, inspection, latency_ms, (in_hand - read_at) * 1e3)

    def _note_size(self, frame: Frame, model_size: int) -> None:
        height, width = frame.image.shape[:2]
        if min(height, width) >= model_size:
            return
        if not self._summary.smaller_than_model:
            _log.warning(
                "%s is %d×%d pixels, smaller than the model's %d×%d; it is enlarged, which adds "
                "no detail (said once).",
                *(frame.name, width, height, model_size, model_size),
            )
        self._summary.smaller_than_model += 1

    def _summarise(self, seconds: float) -> None:
        summary = self._summary
        summary.dropped = self._frames.dropped
        summary.seconds = round(seconds, 3)
        summary.fps = round(summary.frames / seconds, 3)
        if self._latencies:
            p50, p95 = np.percentile(np.array(self._latencies), [50, 95])
            summary.latency_ms = {"p50": round(float(p50), 3), "p95": round(float(p95), 3)}
            summary.stage_ms = {
                stage: round(statistics.median(s[stage] for s in self._stages), 3)
                for stage in self._stages[0]
            }
