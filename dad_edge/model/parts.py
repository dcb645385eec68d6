"""Which good parts taught a model and which were kept out: `parts.json` of a run and a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.files import write_json

PARTS = "parts.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """The images of good parts that a training was given."""

    trained_on: dict[str, str]
    """Name → sha256 of those that taught the networks."""
    kept_out: dict[str, str]
    """Name → sha256 of those that only measured them."""


def write_parts(folder: Path, parts: Parts) -> None:
    """Put `parts.json` into a run or a bundle.

    Raises:
        StorageError: the file cannot be written.
    """
    write_json(folder / PARTS, to_mapping(parts))


def parts_in(folder: Path) -> Parts | None:
    """`parts.json` of a run or a bundle, if it has one.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / PARTS
    return from_mapping(Parts, read_json(path), str(path)) if path.is_file() else None
