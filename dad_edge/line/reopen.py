"""Which sources are opened again when they break off, and after how long."""

from __future__ import annotations

import random

from dad_edge.stream.sources import NETWORK_SCHEMES

FIRST_S = 0.5
LONGEST_S = 30.0
_LASTING = ("camera", "v4l2", *NETWORK_SCHEMES)


def lasts(source: str | int) -> bool:
    """Whether a source has no end of its own, as cameras and streams; files and folders have."""
    if isinstance(source, int) or source.startswith("/dev/"):
        return True
    scheme, separator, _ = source.partition("://")
    return bool(separator) and scheme.lower() in _LASTING


class Backoff:
    """Pauses that double up to a limit, each a little shorter by chance, until something comes."""

    def __init__(self) -> None:
        self._tries = 0

    def next_s(self) -> float:
        """Seconds to wait before the next try."""
        pause_s = min(LONGEST_S, FIRST_S * 2.0 ** min(self._tries, 16))
        self._tries += 1
        return pause_s * random.uniform(0.75, 1.0)

    def reset(self) -> None:
        """Begin with the shortest pause again."""
        self._tries = 0
