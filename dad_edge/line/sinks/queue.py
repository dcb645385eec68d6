"""A sink behind a bounded queue and in a thread of its own, so that it can block nothing."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable

from tenacity import (
    RetryCallState,
    Retrying,
    retry_if_exception_type,
    sleep_using_event,
    stop_when_event_set,
    wait_exponential,
    wait_random,
)

from dad_edge.errors import DadEdgeError, StorageError
from dad_edge.line.records import RecordSink, record_of, record_of_event, record_of_missing
from dad_edge.line.seams import WHOLE_LINE, Event, Judged, LineSink, SinkState
from dad_edge.stream.frames import Unreadable, now

RECORDS_WAITING = 20_000
"""Of a sink that needs no images: 20 MB or so."""
IMAGES_WAITING = 16
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 15.0
_IDLE_S = 0.5

_log = logging.getLogger(__name__)


class QueuedSink:
    """One sink, its queue and its thread; nothing here waits for the sink."""

    def __init__(self, sink: LineSink, on_event: Callable[[Event], None]) -> None:
        """
        Args:
            sink: is closed by this one's thread.
            on_event: told when the sink begins to fail, loses something, and works again.
        """
        self.sink = sink
        self._on_event = on_event
        most = RECORDS_WAITING if isinstance(sink, RecordSink) else IMAGES_WAITING
        self._waiting: queue.Queue[Callable[[], None]] = queue.Queue(most)
        self._closing = threading.Event()
        self._written = self._lost = 0
        self._error = ""
        self._overflows = False
        self._retry = Retrying(
            retry=retry_if_exception_type(StorageError),
            wait=wait_exponential(FIRST_WAIT_S, LONGEST_WAIT_S) + wait_random(0, FIRST_WAIT_S),
            stop=stop_when_event_set(self._closing),
            sleep=sleep_using_event(self._closing),
            before_sleep=self._failed,
            reraise=True,
        )
        self._thread = threading.Thread(target=self._work, name=f"sink {sink.name}", daemon=True)
        self._thread.start()

    def write(self, judged: Judged) -> None:
        """Hand over a judged frame."""
        sink = self.sink
        if not sink.wants(judged):
            return
        if isinstance(sink, RecordSink):
            self._take(sink, record_of(judged))
        else:
            self._put(lambda: sink.write(judged))

    def skip(self, camera: str, missing: Unreadable) -> None:
        """Hand over that a picture could not be read."""
        sink = self.sink
        if isinstance(sink, RecordSink):
            self._take(sink, record_of_missing(camera, missing))
        else:
            self._put(lambda: sink.skip(camera, missing))

    def event(self, event: Event) -> None:
        """Hand over an event."""
        sink = self.sink
        if isinstance(sink, RecordSink):
            self._take(sink, record_of_event(event))
        else:
            self._put(lambda: sink.event(event))

    def state(self) -> SinkState:
        """How the sink does."""
        return SinkState(
            self.sink.name, self._waiting.qsize(), self._written, self._lost, self._error
        )

    def begin_close(self) -> None:
        """Let the thread end once the queue is empty; it repeats no failed call from now on."""
        self._closing.set()

    def close(self, deadline: float) -> None:
        """Write what waits and end; what is not written by the deadline is lost.

        Args:
            deadline: of `time.monotonic`.
        """
        self.begin_close()
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive():
            left = self._waiting.qsize() + 1
            _log.warning("sink %s did not end in time; %d items are lost", self.sink.name, left)

    def _take(self, sink: RecordSink, record: dict[str, object]) -> None:
        self._put(lambda: sink.take(record))

    def _put(self, call: Callable[[], None]) -> None:
        try:
            self._waiting.put_nowait(call)
        except queue.Full:
            self._lost += 1
            if not self._overflows:
                self._overflows = True
                self._tell(f"sink {self.sink.name} is too slow; what finds its queue full is lost.")

    def _work(self) -> None:
        try:
            while not (self._closing.is_set() and self._waiting.empty()):
                try:
                    call = self._waiting.get(timeout=0 if self._closing.is_set() else _IDLE_S)
                except queue.Empty:
                    self._flush()
                    continue
                if self._guarded(lambda call=call: self._retry(call)):  # type: ignore[misc]
                    self._written += 1
                    if self._waiting.empty():
                        self._flush()
                else:
                    self._lost += 1
        finally:
            self._guarded(self.sink.close)

    def _guarded(self, call: Callable[[], object]) -> bool:
        """Whether a call to the sink went well; a mistake in a sink must not end its thread."""
        try:
            call()
        except DadEdgeError as error:
            self._fails_with(error.message)
        except Exception as error:
            _log.exception("sink %s goes on after an error", self.sink.name)
            self._fails_with(f"{type(error).__name__}: {error}")
        else:
            return True
        return False

    def _flush(self) -> None:
        self._overflows = False
        if self._guarded(self.sink.flush) and self._error:
            self._error = ""
            self._tell(f"sink {self.sink.name} works again.")

    def _failed(self, attempt: RetryCallState) -> None:
        outcome = attempt.outcome.exception() if attempt.outcome is not None else None
        if isinstance(outcome, DadEdgeError):
            self._fails_with(outcome.message)

    def _fails_with(self, reason: str) -> None:
        began = not self._error
        self._error = reason
        if began:
            self._tell(f"sink {self.sink.name} fails: {reason}")

    def _tell(self, message: str) -> None:
        event = Event("sink", WHOLE_LINE, now(), message, {"sink": self.sink.name})
        self._on_event(event)
