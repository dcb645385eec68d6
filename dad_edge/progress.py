"""How far a long task is, for whoever runs it and wants to be told."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A callback that is told of every step of a long task, such as a progress bar."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Take note of a step.

        Args:
            done: what is done, in any unit.
            total: what there is to do, in the same unit.
            note: what is under way, in words.
        """


def silent(done: float, total: float, note: str = "") -> None:
    """Progress of a task that nobody watches."""
