"""Memory that the networks compute in, one after the other: one piece for all of them."""

from __future__ import annotations

from dad_edge.runtime.gpu.driver import Buffer, Device, Stream


class Scratch:
    """Device memory for the work of one stream; nothing in it outlives a pass of a network.

    It grows with the largest pass and may move then: what was captured with the old address has to
    be captured again.
    """

    def __init__(self, device: Device, stream: Stream) -> None:
        """
        Args:
            device: where; it frees the memory.
            stream: the only one whose work uses it.
        """
        self._device, self._stream = device, stream
        self._buffer: Buffer | None = None

    @property
    def address(self) -> int:
        """Where it is now; 0 while no pass needs any."""
        return self._buffer.address if self._buffer else 0

    def reserve(self, size: int) -> None:
        """Have at least so many bytes; waits for the stream where it has to grow.

        Raises:
            DeviceError: the memory of the device is used up; there is no scratch memory then.
        """
        if size <= (self._buffer.size if self._buffer else 0):
            return
        if (old := self._buffer) is not None:
            self._device.synchronize(self._stream)
            self._buffer = None  # before the new one, so that both need not fit
            old.close()
        self._buffer = self._device.allocate(size)
