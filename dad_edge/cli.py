"""The `dad-edge` command: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.errors import DadEdgeError

if TYPE_CHECKING:
    from dad_edge.bundle import Bundle

app = typer.Typer(
    name="dad-edge",
    help="DiffusionAD from a folder of good parts to a real-time inspection line.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

BundleOption = Annotated[
    Path | None,
    typer.Option(
        "--bundle",
        help="Bundle folder; without it DAD_EDGE_BUNDLE, then ./bundle, then the demo bundle.",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]
DataOption = Annotated[
    Path, typer.Option("--data", help="Data set: train/good and test/<kind>, or a folder.")
]


def main() -> None:
    """Entry point: errors become two lines on stderr and the documented exit code."""
    try:
        arguments = sys.argv[1:] or ["--help"]
        sys.exit(app(arguments, standalone_mode=False))  # the code of typer.Exit is returned
    except DadEdgeError as error:
        say(f"error: {error.message}\nnext: {error.next_step}")
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        say("error: interrupted.\nnext: run the command again")
        sys.exit(130)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        say(f"error: {error.format_message()}\nnext: see 'dad-edge COMMAND --help'")
        sys.exit(2)


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays for machines."""
    print(text, file=sys.stderr, flush=True)


def emit(result: dict[str, Any]) -> None:
    """Print a result for machines."""
    print(json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False))


def chosen_bundle(named: Path | None) -> Bundle:
    """The bundle of this command, checked; prints which one it is."""
    from dad_edge.bundle import find_bundle, open_bundle

    path, reason = find_bundle(named)
    say(f"bundle: {path} ({reason})")
    return open_bundle(path)


def _print_version(wanted: bool) -> None:
    if wanted:
        from dad_edge import __version__

        print(__version__)
        raise typer.Exit


@app.callback()
def version_option(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass


if __name__ == "__main__":
    main()
