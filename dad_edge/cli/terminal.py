"""What all commands share: their common options, and talking to the person and to the machine."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.errors import writing

if TYPE_CHECKING:
    from dad_edge.bundle import Bundle

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Bundle folder; without it DAD_EDGE_BUNDLE, then ./bundle, then the demo bundle.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
EngineOption = Annotated[
    str | None,
    typer.Option(
        "--engine",
        help="Engine as 'build' named it; if left out the fastest here that the gate accepted.",
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data", help="Data set: train/good and test/<kind>, or a folder.")
]


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays for machines."""
    print(text, file=sys.stderr, flush=True)


def emit(result: dict[str, Any]) -> None:
    """Print a result for machines.

    Raises:
        StorageError: stdout is a file on a full disk, or a pipe that was closed.
    """
    with writing("to stdout"):
        try:
            print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False), flush=True)
        except OSError:
            # What is left in the buffer would fail once more at exit and change the exit code.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise


def chosen_bundle(named: Path | None) -> Bundle:
    """The bundle of this command, checked; prints which one it is."""
    from dad_edge.bundle import find_bundle, open_bundle

    path, reason = find_bundle(named)
    say(f"bundle: {path} ({reason})")
    return open_bundle(path)


def writable_bundle_of(named: Path | None) -> Bundle:
    """The bundle of a command that writes into it; the demo bundle is copied first, which is said.

    Prints which one it is.
    """
    from dad_edge.bundle import find_bundle, open_bundle, writable_bundle

    path, reason = find_bundle(named)
    target = writable_bundle(path)
    say(f"bundle: {target} ({reason}{', copied here to be written' if target != path else ''})")
    return open_bundle(target)
