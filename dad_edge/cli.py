"""The `dad-edge` command: parse, call one function, print."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dad_edge.errors import DadEdgeError, UsageError, require, writing

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
        code = app(arguments, standalone_mode=False)
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


@app.command("demo-data")
def demo_data(
    out: Annotated[Path, typer.Option("--out", help="New folder for the data set.")],
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other parts.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the drawn demo product as a data set in MVTec layout."""
    from dad_edge.data.demo.dataset import write_dataset
    from dad_edge.progress import progress_bar

    with progress_bar("drawing parts") as report:
        counts = write_dataset(out, seed=seed, progress=report)
    say(f"{sum(counts.values())} images in {out}")
    if as_json:
        emit({"folder": str(out), "seed": seed, "images": counts})


@app.command("train")
def train_command(
    data: DataOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; runs/<data>-<size> if left out."),
    ] = None,
    size: Annotated[str, typer.Option("--size", help="nano, edge or paper.")] = "nano",
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="recipe.toml with settings instead of --size.")
    ] = None,
    textures: Annotated[
        Path | None, typer.Option("--textures", help="Folder of texture images; drawn if left out.")
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the images.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Wall-clock limit of the whole run.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on images of good parts; Ctrl-C saves, --resume continues."""
    require("torch", "train", "train")
    from dad_edge import train as training
    from dad_edge.data.dataset import TrainingSet
    from dad_edge.progress import progress_bar
    from dad_edge.samples import SampleSheet

    settings = training.choose_recipe(
        size, recipe, epochs=epochs, max_minutes=max_minutes, seed=seed
    )
    folder = out or Path("runs") / f"{data.resolve().name}-{settings.model.size}"
    settings = training.prepare_recipe(settings, folder, resume)
    with progress_bar("reading images") as report:
        images = TrainingSet(data, settings.model, settings.train, textures, report)
    kind = "objects on a background" if images.foregrounds else "textures"
    say(f"{len(images)} normal images, seen as {kind}; run folder {folder}")
    with progress_bar(f"training {settings.model.size}") as report:
        summary = training.train(
            settings,
            images,
            folder,
            resume=resume,
            device=device,
            on_step=lambda step: report(step.fraction, 1.0, step.note),
            on_save=SampleSheet(images, folder).write,
        )
    say(f"step {summary['step']}: weights in {folder}")
    say(f"next: dad-edge evaluate --data {data} --checkpoint {folder}")
    if as_json:
        emit(summary)


@app.command("evaluate")
def evaluate_command(
    data: DataOption,
    split: Annotated[
        str, typer.Option("--split", help="test, or train (good parts only).")
    ] = "test",
    bundle: BundleOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", help="Folder of a training run, on PyTorch, not a bundle."),
    ] = None,
    device: Annotated[
        str, typer.Option("--device", help="Of --checkpoint: auto, cpu or cuda.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the report; reports/ of the model if left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure image AUROC, pixel AUROC, pixel AP and PRO; a report with pictures."""
    from rich.console import Console

    from dad_edge.data.layouts import Split, find_layout
    from dad_edge.evaluate import bundle_candidate, checkpoint_candidate, evaluate
    from dad_edge.progress import progress_bar
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
    find_layout(data)
    # A folder that cannot be written is known before the work, not after it.
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with progress_bar("inspecting") as show:
        report = evaluate(candidate, data, chosen_split, show)
    page = write_report(report, folder)
    Console(stderr=True).print(report_tables(report))
    say(f"wrote {page}")
    if as_json:
        emit(report_data(report))


@app.command("export")
def export_command(
    checkpoint: Annotated[Path, typer.Option("--checkpoint", help="Folder of a training run.")],
    out: Annotated[Path, typer.Option("--out", help="Folder of the bundle.")] = Path("bundle"),
    class_name: Annotated[
        str | None, typer.Option("--class-name", help="Product; the run's name if left out.")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the bundle there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle of two ONNX graphs and check it against PyTorch on the same noise."""
    require("torch", "train", "export")
    from dad_edge.export import TOLERANCE, export

    bundle, parity = export(checkpoint, out, class_name=class_name, replace=replace)
    say(
        f"PASSED: ONNX Runtime agrees with PyTorch, mask {parity.mask:.1e}, score "
        f"{parity.score:.1e} (allowed {TOLERANCE:.0e})"
    )
    say(f"bundle in {bundle.path}; next: dad-edge calibrate --data DIR --bundle {bundle.path}")
    if as_json:
        emit({"bundle": str(out), "mask_difference": parity.mask, "score_difference": parity.score})


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

    from dad_edge.bench import run_bench
    from dad_edge.bench_table import bench_tables
    from dad_edge.bundle import write_json
    from dad_edge.progress import progress_bar

    chosen = chosen_bundle(bundle)
    with progress_bar("measuring") as report:
        result = run_bench(
            chosen, seconds=seconds, progress=lambda what, share: report(share, 1.0, what)
        )
    Console(stderr=True).print(bench_tables(result))
    if as_json:
        emit(result)
    if out is not None:
        write_json(out, result)
        say(f"wrote {out}")


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
