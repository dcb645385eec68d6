"""An inspector that asks Triton servers: retries, other hosts, and one answer a frame."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.errors import DadEdgeError, DataError, DeviceError, ModelError
from dad_edge.runtime.engines import with_thresholds
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Inspection
from dad_edge.triton.address import Address, parse_address
from dad_edge.triton.protocol import BUNDLE, HEAT, SCORE, SCORE_MAP, VERDICT, VERDICTS, digest_of
from dad_edge.triton.transport import RequestFailed, open_transports

PATIENCE_S = 8.0
"""How long a frame is asked for in all."""
PAUSE_S = (0.05, 0.5)
"""First and longest pause before a frame is asked for again; each is twice the one before."""
_NO_PICTURE = np.zeros((3, 0, 0), np.float32)

_log = logging.getLogger(__name__)


class TritonInspector(Inspector):
    """Inspects on servers with the networks of a bundle; to be used from one thread."""

    def __init__(self, bundle: Bundle, address: Address, threshold: float) -> None:
        """
        Args:
            bundle: whose networks the servers have to have.
            address: of the servers; all are the same model.
            threshold: scores above it are defects.

        Raises:
            MissingDependency: tritonclient is not installed.
            DeviceError: no server is ready.
            ModelError: a server inspects with the networks of another bundle.
        """
        super().__init__(bundle.model, threshold, None)
        self._address = address
        self._digest = digest_of(bundle)
        self._servers = open_transports(address)
        self._current = 0
        side = bundle.model.image_size
        try:
            self.inspect(np.zeros((side, side, 3), np.uint8))
        except BaseException:
            self.close()
            raise

    @property
    def backend(self) -> str:
        return f"Triton at {self._address.hosts[self._current]}, model {self._address.model}"

    @property
    def depth(self) -> int:
        return 2

    def inspect_batch(self, frames: Sequence[Any]) -> list[Inspection]:
        return self.collect(self.submit(frames))

    def submit(self, frames: Sequence[Any]) -> Any:
        """Send frames, each as a request of its own: the server gathers them."""
        if not frames:
            raise DataError("no frame to inspect.", "give at least one frame")
        return [(frame, self._send(frame)) for frame in map(_checked, frames)]

    def collect(self, submission: Any) -> list[Inspection]:
        """Wait for the answers; what failed on the way is asked again."""
        return [self._answer(frame, future) for frame, future in submission]

    def close(self) -> None:
        for server in self._servers:
            server.close()

    def _send(self, frame: NDArray[np.uint8]) -> Future[Any]:
        return self._servers[self._current].send(frame)

    def _answer(self, frame: NDArray[np.uint8], future: Future[Any]) -> Inspection:
        deadline, pause_s = time.monotonic() + PATIENCE_S, PAUSE_S[0]
        while True:
            try:
                return self._read(future.result())
            except RequestFailed as error:
                if not error.passing or time.monotonic() + pause_s > deadline:
                    raise self._failure(error) from error
                _log.debug("asked again: %s", error)
            self._current = (self._current + 1) % len(self._servers)
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S[1])
            future = self._send(frame)

    def _read(self, result: Any) -> Inspection:
        if not np.array_equal(result.as_numpy(BUNDLE)[0], self._digest):
            raise ModelError(
                f"{self._address.hosts[self._current]} inspects with another bundle than this "
                "line's, whose thresholds say nothing of its scores.",
                "give the line the bundle that was exported to the server, or export this line's "
                "with 'dad-edge triton export'",
            )
        score = float(result.as_numpy(SCORE)[0, 0])
        maps = result.as_numpy(SCORE_MAP)[0], result.as_numpy(HEAT)[0]
        found = self._inspection(score, *maps, _NO_PICTURE, _NO_PICTURE, None)
        said = VERDICTS[int(result.as_numpy(VERDICT)[0, 0])]
        if said == "invalid" and found.verdict != "invalid":
            return replace(found, verdict=said, reason="the server sees no part in the frame")
        return found

    def _failure(self, error: RequestFailed) -> DadEdgeError:
        message, _, step = " ".join(str(error).split()).partition(" next: ")
        if error.bad_frame:
            return DataError(message, step or "give frames as a camera gives them")
        hosts = ", ".join(self._address.hosts)
        return DeviceError(
            f"Triton at {hosts} gave no answer: {message.rstrip('.')}.",
            step or f"see whether it serves {self._address.model}, and what its log says",
        )


def ask_servers(bundle: Bundle, engine: str) -> TritonInspector:
    """An inspector on the servers of an address, with the thresholds of a bundle's FP32 graphs.

    Raises:
        UsageError: it is not an address.
        and what `TritonInspector` raises.
    """
    threshold = with_thresholds(bundle, None).image_threshold
    return TritonInspector(bundle, parse_address(engine), threshold)


def _checked(frame: Any) -> NDArray[np.uint8]:
    array = np.ascontiguousarray(frame)
    if array.dtype != np.uint8 or array.ndim != 3 or array.shape[2] != 3 or not array.size:
        raise DataError(
            f"a frame must be (H,W,3) uint8 BGR, got shape {array.shape} of {array.dtype}.",
            "convert it with dad_edge.image.preprocess.as_frame",
        )
    return array
