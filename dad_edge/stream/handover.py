"""A bounded queue between two threads that blocks, or keeps only the newest item."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

T = TypeVar("T")


class Handover(Generic[T]):
    """A bounded queue between two threads that either side can end."""

    def __init__(self, size: int, *, newest_only: bool = False) -> None:
        """
        Args:
            size: items that may wait.
            newest_only: a new item takes the place of the one that waits, unless that one is
                to be kept.
        """
        self.dropped = 0
        self._items: deque[tuple[T, bool]] = deque()
        """The items that wait, each with whether it is to be kept."""
        self._size = size
        self._newest_only = newest_only
        self._ended = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()

    def put(self, item: T, *, keep: bool = False) -> bool:
        """Hand over; waits while the queue is full. False once it has ended.

        Args:
            item: what to hand over.
            keep: this item is never dropped for a newer one, and no other one is dropped for it.
        """
        with self._changed:
            if self._newest_only and not self._ended and not keep:
                kept = [waiting for waiting in self._items if waiting[1]]
                self.dropped += len(self._items) - len(kept)
                self._items = deque(kept)
            self._changed.wait_for(lambda: self._ended or len(self._items) < self._size)
            if self._ended:
                return False
            self._items.append((item, keep))
            self._changed.notify_all()
            return True

    def get(self, timeout: float) -> T | None:
        """The next item, or None if none came in time or the queue has ended and is empty."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or self._ended, timeout)
            item = self._items.popleft()[0] if self._items else None
            self._changed.notify_all()
            return item

    def end(self, error: BaseException | None = None) -> None:
        """Accept no more; the first error is kept for `finished`."""
        with self._changed:
            self._ended = True
            self._error = self._error or error
            self._changed.notify_all()

    def finished(self) -> bool:
        """Whether the queue has ended and is empty."""
        with self._changed:
            return self._ended and not self._items

    @property
    def error(self) -> BaseException | None:
        """Why the queue ended early."""
        return self._error
