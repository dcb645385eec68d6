"""What a source gives: frames, and reports of pictures that could not be read."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DadEdgeError

FOLDER_FPS = 10.0
"""Frames a second of a video made from pictures that have no rate of their own."""


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a part."""

    image: NDArray[np.uint8]
    """(H,W,3) uint8, BGR."""
    name: str
    """File name relative to the source, or the source's name and a number; always printable."""
    index: int
    """Position in the source, from 0."""
    time: datetime
    """When it was read, UTC."""
    kind: str | None = None
    """`good` or the true defect kind, where the truth is known."""
    mask: NDArray[np.uint8] | None = None
    """(H,W) uint8, above 0 on the true defect, where the truth is known."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture of the source that cannot be read; the stream goes on after it."""

    name: str
    index: int
    time: datetime
    error: DadEdgeError


Frames = Generator[Frame | Unreadable, None, None]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source."""

    name: str
    """As named by the user, without what is secret in it."""
    frames: Frames
    """The frames; one thread reads and closes them."""
    live: bool = False
    """Whether frames that come too fast may be dropped for newer ones."""
    waits: bool = False
    """Whether it is no fault if no picture comes for long."""
    length: int | None = None
    """Number of frames, where it is known or the container estimates it."""
    fps: float = FOLDER_FPS
    """Frames a second for a video made of it."""


def now() -> datetime:
    """The time at which a frame is read."""
    return datetime.now(timezone.utc)
