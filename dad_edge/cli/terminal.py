"""What all commands share: their common options, and talking to the person and to the machine."""

from __future__ import annotations

import logging
import os
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.errors import printable, writing
from dad_edge.files import json_text

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


SHOWN = 3
"""Warnings of one kind that are shown."""


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays for machines."""
    print(printable(text), file=sys.stderr, flush=True)


class Warnings(logging.Handler):
    """Says what the package warns of: every text once, and of one kind the first few."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._texts: set[str] = set()
        self._of_kind: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text in self._texts or self._of_kind[record.msg] >= SHOWN:
            return
        self._texts.add(text)
        self._of_kind[record.msg] += 1
        with suppress(OSError, ValueError):  # a closed stderr ends no command
            say(f"{record.levelname.lower()}: {text}")
            if self._of_kind[record.msg] == SHOWN:
                say("warning: more of this kind are not shown.")


def show_warnings() -> None:
    """Show what the package warns of as lines on stderr."""
    logger = logging.getLogger("dad_edge")
    if not any(isinstance(handler, Warnings) for handler in logger.handlers):
        logger.addHandler(Warnings())


def emit(result: dict[str, Any]) -> None:
    """Print a result for machines.

    Raises:
        StorageError: stdout is a file on a full disk, or a pipe that was closed.
    """
    with writing("to stdout"):
        try:
            print(json_text(result), flush=True)
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
