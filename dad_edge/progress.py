"""How far a long task is: what whoever runs it may ask to be told."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Told of every step of a long task; a progress bar is one."""

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Take note of a step.

        Args:
            done: what is done, in any unit.
            total: what there is to do, in the same unit.
            note: what is under way, in words.
        """


def silent(done: float, total: float, note: str = "") -> None:
    """The progress that nobody watches."""
