"""The `dad-edge` command: parse, call one function, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from dad_edge import cli_deploy
from dad_edge.errors import DadEdgeError, require
from dad_edge.terminal import BundleOption, DataOption, JsonOption, chosen_bundle, emit, say

app = typer.Typer(
    name="dad-edge",
    help="DiffusionAD from a folder of good parts to a real-time inspection line.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


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


@app.callback()
def version_option(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from dad_edge import __version__

        print(__version__)
        raise typer.Exit


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


cli_deploy.register(app)


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
