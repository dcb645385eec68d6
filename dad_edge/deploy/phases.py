"""What a TensorRT builder tells about itself: nested phases as one share, messages as a file."""

from __future__ import annotations

from dataclasses import dataclass
from io import TextIOBase
from typing import IO

_LIST_OF_LAYERS = "LayerType: "
"""What only a message with layers contains."""


@dataclass(slots=True)
class _Phase:
    parent: str | None
    steps: int
    done: int = 0


class Phases:
    """Nested phases with numbered steps, as one share of the whole that never falls."""

    def __init__(self) -> None:
        self.share = 0.0
        """Share that is done, in [0,1]."""
        self._active: dict[str, _Phase] = {}

    def start(self, name: str, parent: str | None, steps: int) -> None:
        """A phase begins.

        Args:
            name: of the phase.
            parent: phase that it is a step of; None for the whole.
            steps: number of its steps.
        """
        self._active[name] = _Phase(parent, steps)

    def step(self, name: str, step: int) -> None:
        """A step is complete; steps count from 0 and may be told in any order."""
        if phase := self._active.get(name):
            phase.done = max(phase.done, step + 1)
        self.share = max(self.share, self._share_of(None))

    def finish(self, name: str) -> None:
        """A phase is over, whether or not all its steps were told."""
        phase = self._active.pop(name, None)
        if phase and phase.parent is None:
            self.share = 1.0

    def _share_of(self, parent: str | None) -> float:
        """Share of the phases under a parent that are under way now."""
        inside = [
            min((phase.done + self._share_of(name)) / max(phase.steps, 1), 1.0)
            for name, phase in self._active.items()
            if phase.parent == parent
        ]
        return max(inside, default=0.0)


class BuildLog:
    """The builder's messages in a file of bounded size; errors are always kept."""

    LIMIT = 256 * 1024
    """Characters after which notes and warnings are only counted."""

    def __init__(self, file: IO[str] | TextIOBase) -> None:
        self.layers = ""
        """The builder's list of the layers of a plan, the last one if it gave several."""
        self._file = file
        self._written = 0
        self._left_out = 0

    def note(self, message: str, *, warning: bool = False) -> None:
        """Write a message unless the file is full."""
        if self._written >= self.LIMIT:
            self._left_out += 1
            return
        self._write("warning: " if warning else "", message)

    def detail(self, message: str) -> None:
        """Keep the list of layers, and nothing else: a builder tells hundreds of thousands."""
        if _LIST_OF_LAYERS in message:
            self.layers = message

    def problem(self, message: str) -> None:
        """Write an error."""
        self._write("error: ", message)

    def close(self) -> None:
        """Say how much was left out; the file stays open."""
        if self._left_out:
            self._write("", f"{self._left_out} more messages were left out")
        self._file.flush()

    def _write(self, kind: str, message: str) -> None:
        line = f"{kind}{message.rstrip()}\n"
        self._written += len(line)
        self._file.write(line)
        self._file.flush()
