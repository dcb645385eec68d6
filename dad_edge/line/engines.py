"""The engine that some cameras share: batches in turn, and what becomes of frames when it fails.

Every frame that is taken gets its answer, also where no engine could inspect it. Such a frame is
never good.
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dad_edge.errors import DataError
from dad_edge.line.candidates import Candidate, Succession
from dad_edge.line.config import EngineConfig
from dad_edge.line.intake import Answer, Intake, Waiting
from dad_edge.line.lookout import Lookout
from dad_edge.line.worker import Job, Worker, words_of
from dad_edge.runtime.seams import Inspection

NAN_LIMIT = 3
"""So many frames in a row without a number are a failure of the engine, not of the frames."""
MOST_HUNG = 3
"""So many threads may hang in a library; then no further engine is opened until one returns."""
_POLL_S = 0.05
_STOP_S = 0.6
"""What an engine gets to answer when the line ends."""
_CLOSE_S = 0.1
_STUCK_S = 10.0
"""A step that takes so much longer than a batch may take will not end."""
_QUIET_S = 60.0
"""Single frames without a number are told of no more often than this."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class _Batch:
    taken: list[Waiting]
    job: Job
    in_hand_at: float


class EngineGroup:
    """One engine at work for the cameras of an intake, in threads of its own."""

    def __init__(
        self,
        candidates: Sequence[Candidate],
        intake: Intake,
        settings: EngineConfig,
        cameras: int,
        on_answer: Callable[[Answer], None],
        on_event: Callable[[str], None],
    ) -> None:
        """
        Args:
            candidates: engines, the best first; at least one.
            intake: where frames wait.
            settings: limits of time and of batches.
            cameras: how many there are.
            on_answer: called for every frame that was taken, in the order of each camera.
            on_event: told in one sentence what happens to the engine.
        """
        self.error = ""
        """Why there is no engine at this moment; empty if there is one."""
        self._succession = Succession(candidates)
        self._lookout = Lookout(candidates[0].probe)
        self._intake = intake
        self._settings = settings
        self._cameras = cameras
        self._answer = on_answer
        self._tell = on_event
        self._without_number = 0
        self._told_of_nan_at = -math.inf
        self._worker: Worker | None = None
        self._ready = False
        self._seen_at = time.monotonic()
        self._opening_since = 0.0
        self._retry_at = 0.0
        self._hung: list[Worker] = []
        self._under_way: deque[_Batch] = deque()
        self._stop = threading.Event()
        self._first_open = threading.Event()
        self._thread = threading.Thread(target=self._run, name="line engines", daemon=True)

    @property
    def backend(self) -> str:
        """What computes at this moment, in words."""
        worker = self._worker
        ready = worker is not None and self._ready
        return worker.backend if worker is not None and ready else self._succession.current.label

    @property
    def engine(self) -> str | None:
        """Name of the engine; None for the FP32 graphs."""
        return self._succession.current.engine

    @property
    def alive(self) -> bool:
        """Whether it goes on; if not, only a new process helps."""
        quiet_s = time.monotonic() - self._seen_at
        stuck = quiet_s > self._settings.timeout_s + _STUCK_S
        return self._thread.is_alive() and not stuck and len(self._hung) < MOST_HUNG

    def start(self) -> None:
        """Open the engine and begin."""
        self._thread.start()

    def wait_until_open(self, stopped: Callable[[], bool] = lambda: False) -> bool:
        """Wait until an engine is open, or none of the candidates opened; whether one is."""
        while not self._first_open.wait(_POLL_S) and not stopped():
            pass
        return self._ready

    def request_stop(self) -> None:
        """Take no more frames and let go who hands some over; `stop` waits for the end."""
        self._stop.set()
        self._intake.close()

    def stop(self) -> None:
        """Answer what is under way and end, which takes less than a second."""
        self.request_stop()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._seen_at = time.monotonic()
            try:
                if self._tend():
                    self._step()
                else:
                    self._do_without()
            except Exception:  # a mistake of this program must not end the inspection
                _log.exception("the engine of a line goes on after an error")
                time.sleep(_POLL_S)
        self._finish()

    def _tend(self) -> bool:
        """See to it that there is an engine; whether it takes frames."""
        now = time.monotonic()
        if self._worker is None:
            self._hung = [worker for worker in self._hung if worker.alive]
            if now >= self._retry_at and len(self._hung) < MOST_HUNG:
                candidate = self._succession.current
                self._worker = Worker(candidate.engine or "fp32", candidate.open, candidate.lanes)
                self._opening_since, self._ready = now, False
            return False
        if self._ready:
            return True
        late = now - self._opening_since > self._settings.open_timeout_s
        if not self._worker.is_open and not late:
            return False
        try:
            self._worker.wait_until_open(0.0)
        except Exception as error:
            why = "it did not open in time" if late else words_of(error)
            self._fail(f"it cannot be opened: {why}", restart=False)
            if self._succession.exhausted:
                self._first_open.set()
            return False
        self._ready, self.error = True, ""
        if self._first_open.is_set():
            label = self._succession.current.label
            self._tell(f"{label} inspects now ({self._worker.backend}).")
        self._first_open.set()
        return True

    def _do_without(self) -> None:
        """Answer live frames, which cannot wait; those of files can."""
        for waiting in self._intake.take(self._cameras, _POLL_S, live_only=True):
            reason = f"no engine: {self.error or 'it is being opened'}"
            self._give(self._without(waiting, time.perf_counter(), reason))

    def _step(self) -> None:
        worker = self._worker
        assert worker is not None
        stands_in = self._succession.current is not self._succession.best
        leaves = stands_in and self._lookout.answers()
        if leaves and not self._under_way:
            self._go_back()
            return
        if leaves:
            self._under_way[0].job.pause(_POLL_S)
        elif len(self._under_way) < worker.depth:
            self._submit(worker, _POLL_S)
        if not self._under_way:
            return
        first, full = self._under_way[0], len(self._under_way) >= worker.depth
        late = time.perf_counter() > first.in_hand_at + self._settings.timeout_s
        if not (full or first.job.done or late):
            return
        answers = self._collect(worker, self._under_way.popleft())
        # The engine goes on with what is there already while the answers are handed over.
        if self._worker is worker and not self._stop.is_set() and not leaves:
            self._submit(worker, 0.0)
        for answer in answers:
            self._give(answer)

    def _submit(self, worker: Worker, wait_s: float) -> None:
        """Have the engine begin with the frames that are there; come back early if it is done."""
        most = self._settings.batch
        if most is None:
            most = self._cameras if self._succession.current.on_gpu else 1
        first = self._under_way[0].job if self._under_way else None
        gather_s = self._settings.gather_ms / 1e3 if most > 1 and wait_s and not first else 0.0
        taken = self._intake.take(
            most, wait_s, gather_s, until=lambda: first is not None and first.done
        )
        if taken:
            in_hand_at = time.perf_counter()
            images = [waiting.frame.image for waiting in taken]
            job = worker.submit(images, self._intake.nudge)
            self._under_way.append(_Batch(taken, job, in_hand_at))

    def _collect(self, worker: Worker, batch: _Batch) -> list[Answer]:
        """Wait for a batch; an answer for each of its frames, whatever happened."""
        try:
            inspections = self._wait(batch)
        except DataError as error:  # a frame is at fault, not the engine
            if len(batch.taken) > 1:
                return [a for waiting in batch.taken for a in self._alone(worker, batch, waiting)]
            reason = error.message.rstrip(".")
            return [self._without(batch.taken[0], batch.in_hand_at, reason)]
        except BaseException as error:
            ending = self._stop.is_set()
            reason = "the line ended before the engine answered" if ending else words_of(error)
            answers = [self._without(each, batch.in_hand_at, reason) for each in batch.taken]
            return answers if ending else answers + self._fail(reason)
        done_at = time.perf_counter()
        answers = [
            Answer(waiting, found, "", worker.backend, self.engine, batch.in_hand_at, done_at)
            for waiting, found in zip(batch.taken, inspections, strict=True)
        ]
        return answers + self._note(inspections)

    def _alone(self, worker: Worker, batch: _Batch, waiting: Waiting) -> list[Answer]:
        """A frame of a batch in which one was at fault."""
        if self._worker is not worker:
            return [self._without(waiting, batch.in_hand_at, self.error)]
        job = worker.submit([waiting.frame.image])
        return self._collect(worker, _Batch([waiting], job, time.perf_counter()))

    def _wait(self, batch: _Batch) -> list[Inspection]:
        """The inspections of a batch; while the line ends, they have to come soon."""
        deadline = batch.in_hand_at + self._settings.timeout_s
        stopped = False
        while not batch.job.done and (now := time.perf_counter()) < deadline:
            if self._stop.is_set() and not stopped:
                stopped, deadline = True, min(deadline, now + _STOP_S)
            batch.job.pause(min(_POLL_S, max(0.0, deadline - now)))
        return batch.job.wait(0.0)

    def _note(self, inspections: Sequence[Inspection]) -> list[Answer]:
        """Watch the scores of an engine, which has failed if they are no numbers."""
        for inspection in inspections:
            if math.isfinite(inspection.score):
                self._without_number = 0
                self._succession.worked()
                continue
            self._without_number += 1
            if self._without_number == NAN_LIMIT:
                self._without_number = 0
                return self._fail(f"{NAN_LIMIT} scores in a row are not numbers")
            if (now := time.monotonic()) - self._told_of_nan_at > _QUIET_S:
                self._told_of_nan_at = now
                self._tell(f"{self._succession.current.label} gave a score that is not a number.")
        return []

    def _fail(self, reason: str, *, restart: bool = True) -> list[Answer]:
        """Let go of the engine; answers for the frames that it still had."""
        lost, self._under_way = self._under_way, deque()
        answers = [
            self._without(w, batch.in_hand_at, reason) for batch in lost for w in batch.taken
        ]
        self.error = f"{self._succession.current.label} failed: {reason}"
        self._let_go()
        self._lookout.rest()
        then, pause_s = self._succession.failed(restart=restart)
        self._retry_at = time.monotonic() + pause_s
        self._tell(f"{self.error}; {then}.")
        return answers

    def _let_go(self) -> None:
        """Close the engine, whose threads may take their time to end."""
        if self._worker is not None:
            self._worker.close()
            self._hung.append(self._worker)
        self._worker, self._ready = None, False

    def _go_back(self) -> None:
        """Open the engine that comes first again; the one at work has nothing in hand."""
        self._let_go()
        self._lookout.rest()
        self._succession.go_back()
        self._tell(f"{self._succession.current.label} answers again.")

    def _without(self, waiting: Waiting, in_hand_at: float, reason: str) -> Answer:
        now = time.perf_counter()
        return Answer(waiting, None, reason, self.backend, self.engine, in_hand_at, now)

    def _give(self, answer: Answer) -> None:
        try:
            self._answer(answer)
        except Exception:  # the other frames have to be answered all the same
            _log.exception("frame %s could not be judged", answer.waiting.frame.name)

    def _finish(self) -> None:
        """Answer what is under way and let the engine go."""
        while self._under_way and self._worker is not None:
            for answer in self._collect(self._worker, self._under_way.popleft()):
                self._give(answer)
        if self._worker is not None:
            self._worker.close(_CLOSE_S)
