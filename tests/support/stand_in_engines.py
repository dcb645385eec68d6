"""Engines for tests of a line: answers by the brightness of a frame, and faults on demand."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from stream_results import make_result

from dad_edge.line.candidates import Candidate
from dad_edge.line.worker import Images
from dad_edge.runtime.seams import Inspection

PATIENCE_S = 60.0
_PLAIN = make_result().inspection


def inspection_of(image: np.ndarray) -> Inspection:
    """Scores are the first pixel of a frame divided by 100."""
    return replace(_PLAIN, score=float(image[0, 0, 0]) / 100, verdict="good", reason=None)


class StandIn:
    """An engine whose answer is a function of the frames; faults can be set while it runs."""

    depth = lanes = 1

    def __init__(self, backend: str = "stand-in") -> None:
        self.backend = backend
        self.batches: list[int] = []
        self.fault: Callable[[Images], None] = lambda images: None
        self.opened = self.closed = 0
        self.probe: Callable[[], object] | None = None
        self.open_as: Callable[[], StandIn] = lambda: self

    def submit(self, frames: Images) -> Any:
        self.batches.append(len(frames))
        self.fault(frames)
        return [inspection_of(frame) for frame in frames]

    def collect(self, submission: Any) -> list[Inspection]:
        return list(submission)

    def close(self) -> None:
        self.closed += 1

    def candidate(self, *, on_gpu: bool = False) -> Candidate:
        """The engine as a group may open it."""

        def opened() -> StandIn:
            self.opened += 1
            return self.open_as()

        label = f"engine '{self.backend}'"
        return Candidate(label, self.backend, on_gpu, opened, self.lanes, self.probe)


class Hang:
    """A fault: the engine does not come back until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def __call__(self, images: Images) -> None:
        assert self.let_go.wait(PATIENCE_S)
