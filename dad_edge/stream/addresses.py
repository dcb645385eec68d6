"""Addresses of cameras as they may be printed and logged, without secrets."""

from __future__ import annotations

import re

HIDDEN = "…"
"""Takes the place of what is not shown."""

_ADDRESS = re.compile(
    r"(?:(?P<scheme>[A-Za-z][\w+.-]*)://|(?:rtsps?|https?):?/{0,2})"
    r"(?P<rest>(?:[^\s/@:]*:[^\n]*@)?[^\s'\"]*)",
    re.IGNORECASE,
)
"""An address within a message, also one with a slash or colon too few. A password may hold spaces
and quotes: one with a user lasts to the last `@` of its line."""


def without_secrets(uri: str) -> str:
    """The address of a source without user, password, query and values in its path.

    An `@` behind the first `/`, `?` or `#` can belong to the path, or to a password that holds
    such a character. No rule tells the two apart, so only the scheme is shown then.

    Args:
        uri: with a scheme, such as ``rtsp://user:password@host/path?token=x``; of a pipeline of
            GStreamer only the first element is shown.
    """
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _without_user(uri)
    if scheme.lower() == "gst":  # a whole pipeline, with addresses in it
        element = re.match(r"\s*([\w-]+)(?=[\s#!]|$)", rest)
        return f"{scheme}://{element.group(1) if element else HIDDEN}"
    address = re.match(r"[^/?#]*", rest)
    host = address.group() if address else ""
    if "@" in rest[len(host) :]:
        return f"{scheme}://{HIDDEN}"
    path = re.split(r"[?#;]", rest[len(host) :])[0]
    parts = [HIDDEN if "=" in part or "&" in part else part for part in path.split("/")]
    return f"{scheme}://{host.rpartition('@')[2]}{'/'.join(parts)}"


def has_unclear_password(uri: str) -> bool:
    """Whether an `@` lies where it would if the password held `/`, `?` or `#`."""
    return without_secrets(uri).endswith(f"://{HIDDEN}")


def hide_secrets(text: str) -> str:
    """A message with every address in it as `without_secrets` shows it."""
    return _ADDRESS.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    address = match.group()
    scheme = (match.group("scheme") or "").lower()
    if scheme in ("demo", "file") or not re.search(r"[@?#;=]", match.group("rest")):
        return address
    return without_secrets(address)


def _without_user(text: str) -> str:
    """A mistyped address or a path; what lies before an `@` is hidden if it may be a password."""
    user, at, rest = text.rpartition("@")
    return f"{HIDDEN}@{re.split(r'[?#]', rest)[0]}" if at and ":" in user else text
