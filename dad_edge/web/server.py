"""The page of a line, served from a thread of the line's own process."""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import closing
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware

from dad_edge.errors import DeviceError, UsageError
from dad_edge.line.seams import LineControl
from dad_edge.line.sinks.store import ResultStore
from dad_edge.web.api import EXCEPTION_HANDLERS, Pages
from dad_edge.web.guard import LOOPBACK_NAMES, SHORTEST_TOKEN, Guard, is_loopback

DEFAULT_ADDRESS = "127.0.0.1:8080"
_STARTS_S = 20.0
_ENDS_S = 0.5
_MOST_CONNECTIONS = 256
_SEND_BUFFER = 1 << 17


class RunningWeb:
    """A page that is being served."""

    def __init__(self, server: uvicorn.Server, listener: socket.socket, url: str) -> None:
        self.url = url
        self._server = server
        self._thread = threading.Thread(
            target=server.run, args=([listener],), name="page", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Serve no more; those who look on are cut off."""
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(_ENDS_S)


def start_web(
    control: LineControl,
    store: ResultStore,
    flagged: Path,
    address: str = DEFAULT_ADDRESS,
    token: str | None = None,
    reports: Path | None = None,
) -> RunningWeb:
    """Serve the page of a line until it is closed.

    Args:
        control: the line.
        store: its results.
        flagged: folder of the pictures of its flagged parts.
        address: `HOST:PORT`, `HOST` or `:PORT`; port 0 takes a free one.
        token: what everyone must know who asks; needed where not only this machine can ask.
        reports: folder of reports to open.

    Raises:
        UsageError: the address cannot be understood, or needs a token.
        DeviceError: nothing can listen there.
    """
    host, port = parse_address(address)
    if not is_loopback(host) and token is None:
        raise UsageError(
            f"the page at {host} can be opened by other machines and needs a token.",
            "set the environment variable DAD_EDGE_WEB_TOKEN to 16 characters or more, or use "
            f"{DEFAULT_ADDRESS}",
        )
    if token is not None and len(token) < SHORTEST_TOKEN:
        raise UsageError(
            f"the token of the page is shorter than {SHORTEST_TOKEN} characters.",
            "make one with: openssl rand -hex 16",
        )
    pages = Pages(control, store, flagged, token, reports)
    # A name that someone else points at this machine must not open the page (DNS rebinding).
    hosts = LOOPBACK_NAMES | {host} if token is None else None
    app = Starlette(
        routes=pages.routes(),
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers=EXCEPTION_HANDLERS,
    )
    listener = _listen(host, port)
    shown = f"[{host}]" if ":" in host else host
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="off",
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=0,
    )
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
    server = uvicorn.Server(config)
    return RunningWeb(server, listener, f"http://{shown}:{listener.getsockname()[1]}/")


def parse_address(address: str) -> tuple[str, int]:
    """`HOST:PORT` as a host and a port.

    Raises:
        UsageError: it cannot be understood.
    """
    default_host, _, default_port = DEFAULT_ADDRESS.partition(":")
    host, colon, port = address.rpartition(":")
    if not colon or (address.count(":") > 1 and not address.startswith("[")):
        host, port = address, default_port  # a name, or an IPv6 address without a port
    if address.startswith("[") and address.endswith("]"):
        host, port = address, default_port
    if address.isdecimal():
        host, port = "", address
    host = host.strip("[]") or default_host
    if not (port.isascii() and port.isdigit() and int(port) < 65536) or set(host) & set("/ @#?"):
        raise UsageError(
            f"--web {address!r} is no address.", f"write HOST:PORT, such as {DEFAULT_ADDRESS}"
        )
    return host, int(port)


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise DeviceError(
            f"there is no address {host}: {error.strerror}.", f"use {DEFAULT_ADDRESS}"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Who reads slowly is to miss frames soon, not to have megabytes of them wait.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        listener.bind(where)
        listener.listen(_MOST_CONNECTIONS)
    except OSError as error:
        with closing(listener):
            raise DeviceError(
                f"the page cannot listen at {host}:{port}: {error.strerror}.",
                "name an address of this machine and a port that is free with --web, such as "
                f"{DEFAULT_ADDRESS}, or stop what listens there",
            ) from error
    return listener
