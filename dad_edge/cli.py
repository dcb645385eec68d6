"""The `dad-edge` command: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.errors import DadEdgeError, UsageError

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
def stream(
    camera: Annotated[int | None, typer.Option(help="Index of a camera: 0 is /dev/video0.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="rtsp://..., a video file, a folder of images, demo:// or demo://?parts=60."
        ),
    ] = None,
    bundle: BundleOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for results.jsonl, one record a frame.")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="Write OUT/annotated.mp4 too.")] = False,
    window: Annotated[bool, typer.Option("--window", help="Show the frames; q ends.")] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    fresh_noise: Annotated[
        bool,
        typer.Option(
            "--fresh-noise",
            help="New noise every frame; by default the same part always gets the same score.",
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Key of the noise.")] = 0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print the records of results.jsonl on stdout.")
    ] = False,
) -> None:
    """Inspect a camera, video, folder of images or the demo line, frame by frame."""
    if camera is not None and source is not None:
        raise UsageError("--camera and --source exclude each other.", "name one of them")
    from dad_edge.stream import command

    command.stream(
        source if camera is None else camera,
        lambda: chosen_bundle(bundle),
        out=out,
        video=video,
        window=window,
        max_frames=max_frames,
        fresh_noise=fresh_noise,
        seed=seed,
        json_lines=as_json,
    )


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    parts: Annotated[int, typer.Option(min=1, help="Parts to inspect.")] = 60,
    bundle: BundleOption = None,
    as_json: JsonOption = False,
) -> None:
    """Inspect the built-in demo line: video, contact sheet, log and measured speed."""
    from dad_edge.demo import run_demo, show

    result = run_demo(chosen_bundle(bundle), out, parts)
    show(result)
    if as_json:
        emit(result.as_record())


if __name__ == "__main__":
    main()
