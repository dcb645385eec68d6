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
        app(standalone_mode=False)
    except DadEdgeError as error:
        say(f"error: {error.message}\nnext: {error.next_step}")
        sys.exit(error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
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


@app.callback()
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from dad_edge import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def evaluate(
    data: DataOption,
    split: Annotated[str, typer.Option(help="test, or train (good parts only).")] = "test",
    bundle: BundleOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Folder of a training run, on PyTorch, in place of a bundle."),
    ] = None,
    device: Annotated[str, typer.Option(help="With --checkpoint: auto, cpu or cuda.")] = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Folder of the report; without it, reports/ in the bundle or run."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure image AUROC, pixel AUROC, pixel AP and PRO, and report with pictures."""
    from rich.console import Console
    from rich.progress import Progress

    from dad_edge.data.layouts import Split
    from dad_edge.errors import UsageError, writing
    from dad_edge.evaluate import bundle_candidate, checkpoint_candidate
    from dad_edge.evaluate import evaluate as run_evaluation
    from dad_edge.report import report_data, write_report
    from dad_edge.report_table import report_tables

    if split not in ("test", "train"):
        raise UsageError(f"there is no split '{split}'.", "use --split test or --split train")
    chosen_split: Split = "train" if split == "train" else "test"
    if checkpoint is not None and bundle is not None:
        raise UsageError(
            "--bundle and --checkpoint name two models.", "evaluate one of them at a time"
        )
    if checkpoint is not None:
        say(f"checkpoint: {checkpoint}")
        candidate = checkpoint_candidate(checkpoint, device=device)
    else:
        candidate = bundle_candidate(chosen_bundle(bundle))
    say(f"backend: {candidate.inspector.backend}")
    folder = out or candidate.default_folder(data, chosen_split)
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("inspecting", total=None)
        report = run_evaluation(
            candidate,
            data,
            chosen_split,
            lambda done, total: bar.update(task, completed=done, total=total),
        )
    page = write_report(report, folder)
    console.print(report_tables(report))
    say(f"wrote {page}")
    if as_json:
        emit(report_data(report))


if __name__ == "__main__":
    main()
