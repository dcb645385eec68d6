"""Addresses of servers: `triton://HOST:PORT[,HOST:PORT…][/MODEL]`, also with TLS or by HTTP."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from dad_edge.errors import UsageError
from dad_edge.triton.protocol import MODEL

Protocol = Literal["grpc", "http"]
SCHEMES: dict[str, tuple[Protocol, bool, int]] = {
    "triton": ("grpc", False, 8001),
    "grpcs": ("grpc", True, 8001),
    "http": ("http", False, 8000),
    "https": ("http", True, 443),
}
"""Scheme → protocol, whether it is encrypted, and the port where none is given."""
_HOST = re.compile(r"(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>\d{1,5}))?")
_MODEL = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True, slots=True)
class Address:
    """Where a model is served."""

    hosts: tuple[str, ...]
    """`HOST:PORT`, each serves the same model."""
    model: str
    protocol: Protocol
    encrypted: bool


def is_address(engine: str) -> bool:
    """Whether the name of an engine is the address of a server."""
    return engine.partition("://")[0] in SCHEMES and "://" in engine


def parse_address(text: str) -> Address:
    """Read an address, one that `is_address`.

    Raises:
        UsageError: it is not one.
    """
    scheme, _, rest = text.partition("://")
    protocol, encrypted, usual = SCHEMES[scheme]
    named, _, model = rest.partition("/")
    hosts = []
    for part in named.split(","):
        found = _HOST.fullmatch(part)
        if found is None or not 0 < int(found["port"] or usual) < 65536:
            raise UsageError(
                f"'{part}' in {text} is not HOST or HOST:PORT.",
                "write triton://HOST:8001, the port of Triton's gRPC service",
            )
        hosts.append(f"{found['host']}:{found['port'] or usual}")
    if model and not _MODEL.fullmatch(model):
        raise UsageError(
            f"'{model}' in {text} is not the name of a model.",
            f"write triton://HOST:8001, or triton://HOST:8001/{MODEL}",
        )
    return Address(tuple(hosts), model or MODEL, protocol, encrypted)


def is_local(host: str) -> bool:
    """Whether a `HOST:PORT` is this machine, by its name."""
    return host.rpartition(":")[0] in ("localhost", "127.0.0.1", "[::1]")
