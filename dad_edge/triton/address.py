"""Addresses of servers: `triton://HOST:PORT[,HOST:PORT…][/MODEL]`, `tritons://` with TLS."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dad_edge.errors import UsageError
from dad_edge.triton.protocol import MODEL

SCHEMES = ("triton", "tritons")
PORT = 8001
"""Of Triton's gRPC service."""
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")
_MODEL = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is served."""

    hosts: tuple[str, ...]
    """`HOST:PORT`, each serves the same model."""
    model: str
    encrypted: bool


def is_address(engine: str) -> bool:
    """Whether the name of an engine is the address of a server."""
    return engine.partition("://")[0] in SCHEMES and "://" in engine


def parse_address(text: str) -> Address:
    """Read an address.

    Raises:
        UsageError: it is not one.
    """
    scheme, _, rest = text.partition("://")
    named, _, model = rest.partition("/")
    hosts = []
    for part in named.split(","):
        found = _HOST.fullmatch(part)
        if found is None or not 0 < int(found["port"] or PORT) < 65536:
            raise UsageError(
                f"'{part}' in {text} is not HOST or HOST:PORT.",
                "write triton://HOST:8001, the port of Triton's gRPC service",
            )
        hosts.append(f"{found['host']}:{found['port'] or PORT}")
    if model and not _MODEL.fullmatch(model):
        raise UsageError(
            f"'{model}' in {text} is not the name of a model.",
            f"write triton://HOST:8001, or triton://HOST:8001/{MODEL}",
        )
    return Address(tuple(hosts), model or MODEL, scheme == "tritons")
