"""Frames handed to a server on the same machine in shared memory, instead of through a socket."""

from __future__ import annotations

import logging
import os
import secrets
from collections import deque
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PLACE = Path("/dev/shm")
_ANSWER_S = 2.0
"""Of a server that is told of a region."""
_log = logging.getLogger(__name__)


class Region:
    """A piece of memory that the server knows by its name."""

    def __init__(self, size: int) -> None:
        """
        Raises:
            OSError: there is not so much shared memory.
        """
        self.name = f"dad-edge-{secrets.token_hex(8)}"
        self.size = size
        self._memory = SharedMemory(self.name, create=True, size=size)
        try:
            # Memory that is promised and not there would end the process when it is written to.
            with (_PLACE / self.name).open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, size)
        except OSError:
            self.remove()
            raise

    def write(self, frame: NDArray[np.uint8]) -> None:
        np.ndarray(frame.shape, np.uint8, self._memory.buf)[...] = frame

    def remove(self) -> None:
        self._memory.close()
        self._memory.unlink()


class SharedFrames:
    """The regions of one client; each holds a frame that is on its way, and is then used again."""

    def __init__(self, client: Any) -> None:
        """
        Args:
            client: of tritonclient, of a server on this machine.
        """
        self._client = client
        self._free: deque[Region] = deque()
        self._usable = _PLACE.is_dir()
        self._closed = False

    def put(self, frame: NDArray[np.uint8]) -> Region | None:
        """Write a frame where the server sees it; None where that cannot be done."""
        while self._free:
            region = self._free.popleft()
            if region.size >= frame.nbytes:
                region.write(frame)
                return region
            self.drop(region)
        return self._new(frame) if self._usable else None

    def give_back(self, region: Region) -> None:
        """Let a region be used again; its frame was answered."""
        if self._closed:
            region.remove()
        else:
            self._free.append(region)

    def drop(self, region: Region) -> None:
        """Let a region go; its server may be gone, or may still read it."""
        region.remove()
        try:
            self._client.unregister_system_shared_memory(region.name, client_timeout=_ANSWER_S)
        except Exception as error:
            _log.debug("%s: %s", region.name, error)

    def close(self) -> None:
        """Let all regions go; those on their way go once they are given back."""
        self._closed = True
        while self._free:
            self.drop(self._free.popleft())

    def _new(self, frame: NDArray[np.uint8]) -> Region | None:
        try:
            region = Region(frame.nbytes)
        except OSError as error:
            _log.info("frames go through the socket: %s", error)
            self._usable = False
            return None
        try:
            self._client.register_system_shared_memory(
                region.name, f"/{region.name}", region.size, client_timeout=_ANSWER_S
            )
        except Exception as error:
            region.remove()
            # A server that is gone may share memory once it is back; one in a container does not.
            self._usable = "UNAVAILABLE" in str(error)
            _log.info("frames go through the socket: %s", error)
            return None
        region.write(frame)
        return region
