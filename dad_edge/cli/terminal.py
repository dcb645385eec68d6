"""What all commands share: their common options, and talking to the person and to the machine."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.cli.messages import say
from dad_edge.errors import DataError, ReaderLeft, UsageError, writing
from dad_edge.files import encode_json

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
        help="Engine as 'build' named it; if left out, the fastest here that the gate accepted. "
        "stream takes triton://HOST too.",
    ),
]
DataOption = Annotated[
    Path, typer.Option("--data", help="Data set: train/good and test/<kind>, or a folder.")
]
WEB_ADDRESS = "127.0.0.1:8080"
"""Where the page is if `--web` names no address."""


def with_web_address(arguments: Sequence[str]) -> list[str]:
    """The arguments with the usual address behind a `--web` that has none."""
    filled = list(arguments)
    for position, argument in enumerate(arguments):
        following = arguments[position + 1 : position + 2]
        if argument == "--web" and (not following or following[0].startswith("-")):
            filled[position] = f"--web={WEB_ADDRESS}"
    return filled


def emit(result: dict[str, Any]) -> None:
    """Print a result for machines: JSON in UTF-8, whatever the locale.

    Raises:
        ReaderLeft: stdout is closed, or whoever read it has left.
        StorageError: stdout is a file on a full disk.
    """
    if sys.stdout is None:
        raise ReaderLeft
    with writing("to stdout"):
        try:
            sys.stdout.flush()
            sys.stdout.buffer.write(encode_json(result, indent=2))
            sys.stdout.buffer.flush()
        except OSError:
            leave_stdout()
            raise


def leave_stdout() -> None:
    """Print no more.

    What is left in the buffer would fail once more at exit and change the exit code.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)


def refuse_empty(arguments: Sequence[str]) -> None:
    """Refuse an empty value: as a path it would stand for the current folder.

    Raises:
        UsageError: a value is empty, as with a variable of the shell that was never set.
    """
    for position, argument in enumerate(arguments):
        option, separator, value = argument.partition("=")
        if not argument.strip():
            option = arguments[position - 1] if position else ""
        elif not separator or value.strip():
            continue
        named = f"the value of {option}" if option.startswith("--") else "an argument"
        raise UsageError(
            f"{named} is empty.",
            "if it comes from a variable of the shell, give that variable a value",
        )


def refuse_lost_folder() -> None:
    """Refuse to work in a folder that was removed, where no relative path has a meaning.

    Raises:
        DataError: the current folder does not exist any more.
    """
    try:
        os.getcwd()
    except OSError as error:
        raise DataError(
            "the current folder does not exist any more.", "change to another folder with cd"
        ) from error


def chosen_bundle(named: Path | None) -> Bundle:
    """The bundle of this command, checked; prints which one it is."""
    from dad_edge.bundle import find_bundle, open_bundle

    path, reason = find_bundle(named)
    say(f"bundle: {path} ({reason})")
    return open_bundle(path)


def writable_bundle_of(named: Path | None) -> Bundle:
    """The bundle of a command that writes into it; prints which one it is.

    The demo bundle is copied first, and the message says so.
    """
    from dad_edge.bundle import find_bundle, open_bundle, writable_bundle

    path, reason = find_bundle(named)
    target = writable_bundle(path)
    say(f"bundle: {target} ({reason}{', copied here to be written' if target != path else ''})")
    return open_bundle(target)
