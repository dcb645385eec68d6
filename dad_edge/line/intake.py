"""Where frames of the cameras that share an engine wait, and in which order they are taken."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame

READ_AHEAD = 2
"""Frames of a file that may wait."""
MAX_AGE_S = 1.0
"""A frame of a live source that waited longer shows the past; it is dropped."""


@dataclass(frozen=True, slots=True, eq=False)
class Waiting:
    """A frame that waits for its inspection."""

    camera: str
    frame: Frame
    read_at: float
    """Seconds of `time.perf_counter` when it was read."""
    live: bool


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What came out for one frame."""

    waiting: Waiting
    inspection: Inspection | None
    """None where no engine could inspect the frame."""
    reason: str
    """Why none could; empty if one did."""
    backend: str
    """What computed, in words."""
    engine: str | None
    """Name of the engine; None for the FP32 graphs."""
    in_hand_at: float
    """Seconds of `time.perf_counter` when the frame was taken."""
    done_at: float
    """The same, when the answer was there."""


class _Lane:
    """What waits of one camera."""

    def __init__(self) -> None:
        self.frames: deque[Waiting] = deque()
        self.paused = False
        self.dropped = self.taken = 0

    def serves(self, live_only: bool) -> bool:
        """Whether a frame may be taken."""
        return not self.paused and bool(self.frames) and (self.frames[0].live or not live_only)


class Intake:
    """A place for every camera, from which an engine takes frames in turn.

    A camera can fill no more than its own place. A live source keeps its newest frame there; a
    file waits until there is room.
    """

    def __init__(self, cameras: list[str], clock: Callable[[], float] = time.perf_counter) -> None:
        """
        Args:
            cameras: names.
            clock: seconds, those of `Waiting.read_at`.
        """
        self._lanes = {name: _Lane() for name in cameras}
        self._turns = deque(cameras)
        """Who was served longest ago comes first."""
        self._clock = clock
        self._closed = False
        self._changed = threading.Condition()

    def put(self, waiting: Waiting) -> bool:
        """Hand over a frame; that of a file waits while its place is full. False once closed."""
        lane = self._lanes[waiting.camera]
        with self._changed:
            if waiting.live:
                if not lane.paused:
                    lane.dropped += len(lane.frames)
                lane.frames.clear()
            self._changed.wait_for(lambda: self._closed or len(lane.frames) < READ_AHEAD)
            if self._closed:
                return False
            lane.frames.append(waiting)
            self._changed.notify_all()
            return True

    def take(
        self,
        most: int,
        wait_s: float,
        gather_s: float = 0.0,
        *,
        live_only: bool = False,
        until: Callable[[], bool] = lambda: False,
    ) -> list[Waiting]:
        """Take at most one frame of each camera, of those first that were served longest ago.

        Args:
            most: frames at once.
            wait_s: how long to wait for the first frame.
            gather_s: how long to wait then for frames of the other cameras.
            live_only: leave the frames of files where they are.
            until: ends the wait for the first frame; looked at again after `nudge`.

        Returns:
            The frames; none if none came, or once closed.
        """
        with self._changed:
            ready = partial(self._ready, live_only)
            self._changed.wait_for(lambda: self._closed or ready() > 0 or until(), wait_s)
            wanted = min(most, sum(not lane.paused for lane in self._lanes.values()))
            if gather_s > 0 and 0 < ready() < wanted:
                self._changed.wait_for(lambda: self._closed or ready() >= wanted, gather_s)
            taken = [] if self._closed else self._serve(most, live_only)
            if taken:
                self._changed.notify_all()
            return taken

    def nudge(self) -> None:
        """Have whoever waits for frames look at its `until` again."""
        with self._changed:
            self._changed.notify_all()

    def _ready(self, live_only: bool) -> int:
        return sum(lane.serves(live_only) for lane in self._lanes.values())

    def _serve(self, most: int, live_only: bool) -> list[Waiting]:
        taken: list[Waiting] = []
        now = self._clock()
        for name in list(self._turns):
            lane = self._lanes[name]
            if len(taken) == most or not lane.serves(live_only):
                continue
            waiting = lane.frames.popleft()
            if waiting.live and now - waiting.read_at > MAX_AGE_S:
                lane.dropped += 1
                continue
            taken.append(waiting)
            lane.taken += 1
            self._turns.remove(name)
            self._turns.append(name)
        return taken

    def pause(self, camera: str, paused: bool) -> None:
        """Take no more frames of a camera, or go on."""
        with self._changed:
            self._lanes[camera].paused = paused
            self._changed.notify_all()

    def dropped(self, camera: str) -> int:
        """Frames of a live source that were dropped for newer ones, or were too old."""
        return self._lanes[camera].dropped

    def left(self, camera: str, answered: int) -> bool:
        """Whether a frame of a camera waits, or was taken and is not among the answered ones."""
        with self._changed:
            lane = self._lanes[camera]
            return bool(lane.frames) or lane.taken > answered

    def close(self) -> None:
        """Take and hand out no more frames."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
