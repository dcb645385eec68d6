"""The commands at the line: stream, demo, bench, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dad_edge.bench.names import DeviceName, StudyName
from dad_edge.cli.messages import say
from dad_edge.cli.terminal import BundleOption, EngineOption, JsonOption, chosen_bundle, emit
from dad_edge.errors import UsageError


def stream_command(
    camera: Annotated[int | None, typer.Option(help="Index of a camera: 0 is /dev/video0.")] = None,
    source: Annotated[
        str | None,
        typer.Option(
            help="rtsp://..., /dev/video0, a video file, a folder of images, or demo://?parts=60."
        ),
    ] = None,
    bundle: BundleOption = None,
    engine: EngineOption = None,
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
    from dad_edge.stream.command import stream

    stream(
        source if camera is None else camera,
        lambda: chosen_bundle(bundle),
        engine=engine,
        out=out,
        video=video,
        window=window,
        max_frames=max_frames,
        fresh_noise=fresh_noise,
        seed=seed,
        json_lines=as_json,
    )


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    parts: Annotated[int, typer.Option(min=1, help="Parts to inspect.")] = 60,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="A bundle in place of the demo bundle."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Inspect the built-in demo line: video, contact sheet, log and measured speed."""
    from dad_edge.bundle import PACKAGED
    from dad_edge.stream.demo import run_demo, show

    result = run_demo(chosen_bundle(bundle or PACKAGED), out, parts)
    show(result)
    if as_json:
        emit(result.as_record())


def bench_command(
    bundle: BundleOption = None,
    study: Annotated[
        StudyName,
        typer.Option(
            help="main: the bundle on every runtime; table3, table4: the paper's rows; precision; "
            "scaling: image size, batch, λ and cameras; all."
        ),
    ] = "main",
    engine: EngineOption = None,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="How long to measure each row; an unsteady row takes longer."),
    ] = None,
    predict: Annotated[
        DeviceName | None,
        typer.Option(help="Estimate a device that is not at hand from its published peaks."),
    ] = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None, typer.Option(help="Write the result to this JSON file, and FILE.md beside it.")
    ] = None,
) -> None:
    """Measure frames per second on every runtime of this machine, beside the paper's rows."""
    from rich.console import Console

    from dad_edge.bench.markdown import bench_markdown
    from dad_edge.bench.result import to_json
    from dad_edge.bench.study import run_study
    from dad_edge.bench.table import bench_tables
    from dad_edge.cli.progress import progress_bar
    from dad_edge.files import write_json, write_whole

    if predict is not None and (study != "main" or engine is not None):
        raise UsageError(
            "--predict estimates another device; --study and --engine measure this one.",
            "give one of them",
        )
    chosen = chosen_bundle(bundle)
    if predict is not None:
        from dad_edge.bench.predict import estimate, prediction_table

        estimated = estimate(chosen, predict, seconds)
        Console(stderr=True).print(prediction_table(estimated))
        if as_json:
            emit(estimated.to_json())
        if out is not None:
            write_json(out, estimated.to_json())
            say(f"wrote {out}")
        return
    with progress_bar("measuring") as progress:
        result = run_study(
            chosen,
            study,
            engine=engine,
            seconds=seconds,
            progress=progress,
        )
    Console(stderr=True).print(bench_tables(result))
    if as_json:
        emit(to_json(result))
    if out is not None:
        write_json(out, to_json(result))
        write_whole(out.with_suffix(".md"), bench_markdown(result).encode())
        say(f"wrote {out} and {out.with_suffix('.md').name}")


def doctor_command(bundle: BundleOption = None, as_json: JsonOption = False) -> None:
    """Say what can run here, why the rest cannot, and whether a frame can be inspected."""
    from rich.console import Console

    from dad_edge.doctor.checks import examine
    from dad_edge.doctor.table import doctor_table

    diagnosis = examine(bundle)
    Console(stderr=True).print(doctor_table(diagnosis))
    if as_json:
        emit(diagnosis.to_mapping())
    raise typer.Exit(diagnosis.exit_code)


COMMANDS = {
    "stream": stream_command,
    "demo": demo_command,
    "bench": bench_command,
    "doctor": doctor_command,
}
"""Name on the command line → function."""
