"""Who may ask the page for what: host, token, origin, method and size, before any handler runs."""

from __future__ import annotations

import hashlib
import hmac
import json
from http.cookies import CookieError, SimpleCookie
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

from starlette.types import ASGIApp, Message, Receive, Scope, Send

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
COOKIE = "dad_edge_session"
LARGEST_BODY = 64 << 10
INSPECT = "/inspect"
LARGEST_PICTURE = 64 << 20
SHORTEST_TOKEN = 16
_OPEN = frozenset({"/login", "/healthz", "/readyz", "/page/page.css", "/page/icon.svg"})
"""Paths that need no token: they show nothing of the line."""
_SAFE = frozenset({"GET", "HEAD"})
_METHODS = _SAFE | {"PUT", "POST"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Middleware: refuses what does not come from the page itself or from who has the token."""

    def __init__(self, app: ASGIApp, hosts: frozenset[str] | None, token: str | None) -> None:
        """
        Args:
            app: what is guarded.
            hosts: names under which the page may be asked for; any if None, which is safe only
                with a token.
            token: what everyone must know; nobody if None.
        """
        self._app = app
        self._hosts = hosts
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {
            key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]
        }
        if refusal := self._refusal(scope, headers):
            await _answer(send, *refusal)
            return
        await self._app(scope, _limited(receive, _largest(scope["path"])), _hardened(send))

    def _refusal(self, scope: Scope, headers: dict[str, str]) -> tuple[int, str] | None:
        """Status and reason, or None where nothing speaks against the request."""
        method, path = scope["method"], scope["path"]
        host = headers.get("host", "")
        if self._hosts is not None and _name_of(host) not in self._hosts:
            return 421, "this name does not lead to the page; use the address that was printed"
        if method not in _METHODS:
            return 405, f"{method} is not known here"
        length = headers.get("content-length", "0")
        if not length.isdigit() or int(length) > _largest(path):
            return 413, f"a request may hold {_largest(path)} bytes"
        if method not in _SAFE:
            if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
                return 403, "the request comes from another site"
            origin = headers.get("origin")
            if origin is not None and urlsplit(origin).netloc != host:
                return 403, "the request comes from another site"
        if self._token is not None and path not in _OPEN and not self._is_known(headers):
            return 401, "a token is needed: open /login, or send 'Authorization: Bearer TOKEN'"
        return None

    def _is_known(self, headers: dict[str, str]) -> bool:
        assert self._token is not None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and is_token(given.strip(), self._token):
            return True
        try:
            cookie = SimpleCookie(headers.get("cookie", "")).get(COOKIE)
        except CookieError:
            return False
        return cookie is not None and is_token(cookie.value, session_of(self._token))


def is_token(given: str, token: str) -> bool:
    """Whether two secrets are the same, in a time that tells nothing."""
    return hmac.compare_digest(given.encode(), token.encode())


def session_of(token: str) -> str:
    """What a browser keeps in place of the token."""
    return hmac.new(token.encode(), b"dad-edge session", hashlib.sha256).hexdigest()


def is_loopback(host: str) -> bool:
    """Whether an address is of this machine alone."""
    if host in LOOPBACK_NAMES:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _largest(path: str) -> int:
    """Bytes that a request may hold."""
    return LARGEST_PICTURE if path == INSPECT else LARGEST_BODY


def _limited(receive: Receive, largest: int) -> Receive:
    """Bodies that say nothing of their length are limited too."""
    taken = 0

    async def limited() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > largest:
            return {"type": "http.disconnect"}
        return message

    return limited


def _hardened(send: Send) -> Send:
    async def hardened(message: Message) -> None:
        if message["type"] == "http.response.start":
            given = {key.lower() for key, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(pair for pair in _encoded(_HEADERS) if pair[0] not in given),
            ]
        await send(message)

    return hardened


def _encoded(headers: dict[str, str]) -> list[tuple[bytes, bytes]]:
    return [(key.lower().encode(), value.encode()) for key, value in headers.items()]


async def _answer(send: Send, status: int, reason: str) -> None:
    body: dict[str, Any] = {"error": reason}
    content = json.dumps(body).encode()
    headers = _encoded({**_HEADERS, "Content-Type": "application/json"})
    headers.append((b"content-length", str(len(content)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": content})
