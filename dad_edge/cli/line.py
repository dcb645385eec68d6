"""The commands at the line: stream, demo, bench, doctor."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dad_edge.bench.names import DeviceName, StudyName
from dad_edge.cli.messages import say
from dad_edge.cli.terminal import (
    WEB_ADDRESS,
    BundleOption,
    EngineOption,
    JsonOption,
    chosen_bundle,
    emit,
)
from dad_edge.errors import UsageError, require

if TYPE_CHECKING:
    from dad_edge.line.command import OpenPage, Page
    from dad_edge.line.config import LineConfig
    from dad_edge.line.runner import Line

WEB_TOKEN = "DAD_EDGE_WEB_TOKEN"
"""Variable of the environment with the token that a page on the network asks for."""


WebOption = Annotated[
    str | None,
    typer.Option(metavar="[HOST:PORT]", help=f"Show the page; at {WEB_ADDRESS} if left out."),
]


def stream_command(
    camera: Annotated[
        list[int] | None,
        typer.Option(help="Index of a camera: 0 is /dev/video0. May be repeated."),
    ] = None,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="rtsp://..., /dev/video0, a video file, a folder of images, or demo://?parts=60. "
            "May be repeated."
        ),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="line.toml: many cameras, each with its own settings.")
    ] = None,
    web: WebOption = None,
    bundle: BundleOption = None,
    engine: EngineOption = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the results, one record a frame.")
    ] = None,
    video: Annotated[bool, typer.Option("--video", help="Write OUT/annotated.mp4 too.")] = False,
    window: Annotated[bool, typer.Option("--window", help="Show the frames; q ends.")] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="End after so many frames.")] = None,
    once: Annotated[
        bool,
        typer.Option("--once", help="A camera or stream that breaks off is an error."),
    ] = False,
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
    """Inspect cameras, videos, folders of images or the demo line, frame by frame."""
    sources: list[str | int] = [*(camera or ()), *(source or ())]
    if config is not None or web is not None or len(sources) > 1:
        unfit = {
            "--video": video, "--window": window, "--max-frames": max_frames is not None,
            "--fresh-noise": fresh_noise, "--seed": seed != 0, "--json": as_json, "--once": once,
        }  # fmt: skip
        _refuse("inspects one source, and here is a line of cameras", unfit)
        if config is not None:
            named = {
                "--camera": camera, "--source": source, "--bundle": bundle, "--engine": engine,
                "--out": out,
            }  # fmt: skip
            _refuse(f"belongs into {config}, which says it already", named)
        _stream_line(config, sources, bundle, engine, out, web)
        return
    from dad_edge.stream.command import stream

    stream(
        sources[0] if sources else None,
        lambda: chosen_bundle(bundle),
        engine=engine,
        out=out,
        video=video,
        window=window,
        max_frames=max_frames,
        fresh_noise=fresh_noise,
        seed=seed,
        json_lines=as_json,
        once=once,
    )


def _refuse(why: str, options: Mapping[str, object]) -> None:
    for option, given in options.items():
        if given:
            raise UsageError(f"{option} {why}.", f"leave {option} out")


def _stream_line(
    config: Path | None,
    sources: list[str | int],
    bundle: Path | None,
    engine: str | None,
    out: Path | None,
    web: str | None,
) -> None:
    from dad_edge.stream.sources import KNOWN

    if config is None and not sources:
        raise UsageError(
            "stream needs a source: --camera N or --source URI.", f"--source takes one of: {KNOWN}"
        )
    for package in ("tenacity", "scipy.stats"):
        require(package, "line", "inspect a line")
    for package in ("starlette", "uvicorn", "prometheus_client") if web is not None else ():
        require(package, "line", "show the page")
    from dad_edge.line.command import run_line
    from dad_edge.line.config import line_of, read_line

    if config is not None:
        settings = read_line(config)
    else:
        folder = out or Path("results")
        settings = line_of(sources, folder=folder, bundle=bundle, engine=engine or "")
    run_line(settings, _page_at(web, settings) if web is not None else None)


def _page_at(address: str, settings: LineConfig) -> OpenPage:
    """Opens the page of a line at an address, with the reports of its first camera's bundle."""
    from dad_edge.bundle import REPORTS, find_bundle
    from dad_edge.line.sinks.flagged import FOLDER
    from dad_edge.line.sinks.store import DATABASE, ResultStore
    from dad_edge.web.server import start_web

    folder = settings.folder_path
    named = next(iter(settings.cameras.values())).bundle
    bundle, _ = find_bundle(Path(named) if named else None)

    def opened(line: Line) -> Page:
        page: Page = start_web(
            line,
            ResultStore(folder / DATABASE),
            folder / FOLDER,
            address,
            token=os.environ.get(WEB_TOKEN),
            reports=bundle / REPORTS,
        )
        return page

    return opened


def demo_command(
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("demo-out"),
    parts: Annotated[int, typer.Option(min=1, help="Parts to inspect.")] = 60,
    bundle: Annotated[
        Path | None,
        typer.Option("--bundle", help="A bundle in place of the demo bundle."),
    ] = None,
    web: WebOption = None,
    as_json: JsonOption = False,
) -> None:
    """Inspect the built-in demo line: video, contact sheet, log and measured speed."""
    from dad_edge.bundle import PACKAGED

    if web is not None:
        _refuse("is for a run that ends; the page shows one that goes on", {"--json": as_json})
        _stream_line(None, ["demo://"], bundle or PACKAGED, None, out, web)
        return
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
