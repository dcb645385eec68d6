"""How one server is asked: a frame goes there by gRPC or HTTP, and an answer or a failure comes."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import require
from dad_edge.triton.address import Address, is_local
from dad_edge.triton.protocol import BUNDLE, FRAME, HEAT, SCORE, SCORE_MAP, VERDICT
from dad_edge.triton.shared import Region, SharedFrames

ANSWER_S = 5.0
"""A server that has not answered by then is asked again, or another one."""
WANTED = (SCORE, VERDICT, BUNDLE, SCORE_MAP, HEAT)
_AT_ONCE = 2
"""Requests of one client that are on their way by HTTP; more of them wait."""
_PASSING = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "CANCELLED", "RESOURCE_EXHAUSTED", "NOT_FOUND")
"""gRPC codes of what may be over soon: a server that starts, or changes to another version."""
_NOT_PASSING = ("400", "401", "403", "500")
"""HTTP codes of what stays."""


class RequestFailed(Exception):
    """A server gave no answer to a frame."""

    def __init__(self, message: str, *, passing: bool, bad_frame: bool) -> None:
        """
        Args:
            message: what the server or the connection says.
            passing: it may be over soon, here or at another server.
            bad_frame: the frame is at fault.
        """
        super().__init__(message)
        self.passing = passing
        self.bad_frame = bad_frame


class Transport(Protocol):
    """One server."""

    def send(self, frame: NDArray[np.uint8]) -> Future[Any]:
        """Ask for a frame (H,W,3); the future has the result, or `RequestFailed`."""

    def close(self) -> None:
        """Let the connection go."""


def open_transports(address: Address) -> list[Transport]:
    """A transport to each server of an address; nothing is sent yet.

    Raises:
        MissingDependency: tritonclient is not installed, or not with this protocol.
    """
    client = require(f"tritonclient.{address.protocol}", "triton", "inspect on Triton servers")
    kind: Callable[[Any, str, Address], Transport]
    kind = GrpcTransport if address.protocol == "grpc" else HttpTransport
    return [kind(client, host, address) for host in address.hosts]


class GrpcTransport:
    """Requests without waiting; frames for a server on this machine go by shared memory."""

    def __init__(self, module: Any, host: str, address: Address) -> None:
        self._module, self._model = module, address.model
        self._client = module.InferenceServerClient(
            host, ssl=address.encrypted, root_certificates=_authorities()
        )
        self._shared = SharedFrames(self._client) if is_local(host) else None

    def send(self, frame: NDArray[np.uint8]) -> Future[Any]:
        given = self._module.InferInput(FRAME, [1, *frame.shape], "UINT8")
        region = self._shared.put(frame) if self._shared else None
        if region is None:
            given.set_data_from_numpy(frame[None])
        else:
            given.set_shared_memory(region.name, frame.nbytes)
        wanted = [self._module.InferRequestedOutput(name) for name in WANTED]
        future: Future[Any] = Future()

        def answered(result: Any, error: Any) -> None:
            self._free(region, error is None)
            if error is not None:
                future.set_exception(_failure(error))
            else:
                future.set_result(result)

        options = {"outputs": wanted, "client_timeout": ANSWER_S}
        try:
            self._client.async_infer(self._model, [given], answered, **options)
        except Exception as error:  # a channel that was closed under it
            answered(None, error)
        return future

    def close(self) -> None:
        if self._shared:
            self._shared.close()
        self._client.close()

    def _free(self, region: Region | None, answered: bool) -> None:
        if region is not None and self._shared is not None:
            if answered:
                self._shared.give_back(region)
            else:
                # In a thread of its own: this one belongs to gRPC, which a call would wait for.
                threading.Thread(target=self._shared.drop, args=(region,), daemon=True).start()


class HttpTransport:
    """Requests in threads, each with a connection of its own."""

    def __init__(self, module: Any, host: str, address: Address) -> None:
        self._module, self._host, self._address = module, host, address
        self._own = threading.local()
        self._threads = ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="triton")

    def send(self, frame: NDArray[np.uint8]) -> Future[Any]:
        return self._threads.submit(self._ask, frame)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, frame: NDArray[np.uint8]) -> Any:
        given = self._module.InferInput(FRAME, [1, *frame.shape], "UINT8")
        given.set_data_from_numpy(frame[None])
        wanted = [self._module.InferRequestedOutput(name) for name in WANTED]
        try:
            if not hasattr(self._own, "client"):
                self._own.client = self._connected()
            return self._own.client.infer(self._address.model, [given], outputs=wanted)
        except Exception as error:
            raise _failure(error) from error

    def _connected(self) -> Any:
        authorities = _authorities()
        return self._module.InferenceServerClient(
            self._host,
            connection_timeout=ANSWER_S,
            network_timeout=ANSWER_S,
            ssl=self._address.encrypted,
            ssl_options={"ca_certs": authorities} if authorities else None,
        )


def _authorities() -> str | None:
    """File of those who vouch for servers; None for the public ones that the client carries."""
    return ssl.get_default_verify_paths().cafile


def _failure(error: Exception) -> RequestFailed:
    """What went wrong, by the code of the server; what has none is the connection."""
    code = str(getattr(error, "status", lambda: None)() or "")
    message = str(getattr(error, "message", lambda: None)() or f"{type(error).__name__}: {error}")
    if "shared memory region" in message:  # of a server that was started again
        return RequestFailed(message, passing=True, bad_frame=False)
    if code.startswith("StatusCode."):
        passing = any(name in code for name in _PASSING)
    else:
        passing = code not in _NOT_PASSING
    bad_frame = code == "400" or "INVALID_ARGUMENT" in code
    return RequestFailed(message, passing=passing, bad_frame=bad_frame)
