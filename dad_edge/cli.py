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
    no_args_is_help=True,
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
        code = app(standalone_mode=False)
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
    if code:  # what a command gave to typer.Exit
        sys.exit(code)


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


@app.callback()
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from dad_edge import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def bench(
    bundle: BundleOption = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="How long to measure; up to 3 × this until steady.")
    ] = 10.0,
    as_json: JsonOption = False,
    out: Annotated[Path | None, typer.Option(help="Write the result to this JSON file.")] = None,
) -> None:
    """Measure frames per second, stage by stage, beside the paper's rows."""
    from rich.console import Console
    from rich.progress import Progress

    from dad_edge.bench import run_bench
    from dad_edge.bench_table import bench_tables
    from dad_edge.bundle import write_json

    chosen = chosen_bundle(bundle)
    console = Console(stderr=True)
    with Progress(console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("starting", total=1.0)

        def show(what: str, share: float) -> None:
            bar.update(task, description=what, completed=share, refresh=True)

        result = run_bench(chosen, seconds=seconds, progress=show)
    console.print(bench_tables(result))
    if out is not None:
        write_json(out, result)
        say(f"wrote {out}")
    if as_json:
        emit(result)


@app.command()
def doctor(bundle: BundleOption = None, as_json: JsonOption = False) -> None:
    """Say what can run here, why the rest cannot, and whether a frame can be inspected."""
    from rich.console import Console

    from dad_edge.doctor import doctor_table, examine

    report = examine(bundle)
    Console(stderr=True).print(doctor_table(report))
    if as_json:
        emit(report.to_mapping())
    raise typer.Exit(report.exit_code)


if __name__ == "__main__":
    main()
