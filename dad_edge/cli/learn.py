"""The commands from images to a bundle: demo-data, train, import, evaluate, export."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from dad_edge.cli.messages import say
from dad_edge.cli.terminal import (
    BundleOption,
    DataOption,
    EngineOption,
    JsonOption,
    chosen_bundle,
    emit,
)
from dad_edge.config import EncoderName, Foreground, Fusion, ModelConfig, Recipe, SizeName
from dad_edge.errors import UsageError, require, writing
from dad_edge.machine.environment import follows

TexturesOption = Annotated[
    Path | None, typer.Option("--textures", help="Folder of texture images; drawn if left out.")
]
ForegroundOption = Annotated[
    Foreground | None,
    typer.Option("--foreground", help="What the images show; as the recipe says if left out."),
]
TilesOption = Annotated[
    str | None,
    typer.Option(
        "--tiles",
        help="Rows x columns of tiles for large images, such as 2x3; by their shape if left out.",
    ),
]
KeepAspectOption = Annotated[
    bool, typer.Option("--keep-aspect", help="Pad images to their shape, do not stretch them.")
]
IgnoreMaskOption = Annotated[
    Path | None,
    typer.Option("--ignore-mask", help="Picture that is not black where nothing is inspected."),
]
DeviceName = Literal["auto", "cpu", "cuda"]
"""Where PyTorch computes."""


def demo_data_command(
    out: Annotated[Path, typer.Option("--out", help="New folder for the data set.")],
    seed: Annotated[int, typer.Option("--seed", help="Another seed draws other parts.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write the drawn demo product as a data set in MVTec layout."""
    from dad_edge.cli.progress import progress_bar
    from dad_edge.data.demo.dataset import write_dataset

    with progress_bar("drawing parts") as progress:
        counts = write_dataset(out, seed=seed, progress=progress)
    say(f"{sum(counts.values())} images in {out}")
    if as_json:
        emit({"folder": str(out), "seed": seed, "images": counts})


def preview_command(
    data: DataOption,
    out: Annotated[Path, typer.Option("--out", help="Picture to write.")] = Path("preview.png"),
    size: Annotated[SizeName, typer.Option("--size", help="nano, edge or paper.")] = "nano",
    textures: TexturesOption = None,
    foreground: ForegroundOption = None,
    tiles: TilesOption = None,
    keep_aspect: KeepAspectOption = False,
    ignore_mask: IgnoreMaskOption = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of the training.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Write a sheet of the synthetic anomalies that training will see."""
    from dad_edge.cli.progress import progress_bar
    from dad_edge.config import RECIPES
    from dad_edge.data.dataset import TrainingSet
    from dad_edge.data.depth import with_depth
    from dad_edge.image.framing import read_ignore
    from dad_edge.learn.preview import preview, write_preview

    recipe = _with_images(RECIPES[size], foreground, tiles, keep_aspect)
    settings = replace(recipe.train, seed=seed)
    model = _with_own_tiles(with_depth(recipe.model, data), data, tiles, keep_aspect)
    ignore = read_ignore(ignore_mask) if ignore_mask else None
    with progress_bar("reading images") as progress:
        images = TrainingSet(data, model, settings, textures, progress, ignore)
    sheet = preview(images, data.resolve().name)
    write_preview(sheet, out)
    say(f"{sheet.images} normal images, seen as {sheet.kind}; {sheet.marked:.1%} marked; {out}")
    if as_json:
        emit({"images": sheet.images, "kind": sheet.kind, "marked": sheet.marked, "file": str(out)})


def train_command(
    data: DataOption,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the run; runs/<data>-<size> if left out."),
    ] = None,
    size: Annotated[
        SizeName | None,
        typer.Option("--size", help="nano, edge or paper; nano if left out.", show_default=False),
    ] = None,
    recipe: Annotated[
        Path | None, typer.Option("--recipe", help="recipe.toml with settings instead of --size.")
    ] = None,
    fusion: Annotated[
        Fusion | None,
        typer.Option(
            "--fusion", help="norm_guided for the journal version; as the recipe says if left out."
        ),
    ] = None,
    encoder: Annotated[
        EncoderName | None,
        typer.Option(
            "--encoder",
            help="Compare frozen features of photographs, or pixels alone; the recipe's if left "
            "out.",
        ),
    ] = None,
    textures: TexturesOption = None,
    foreground: ForegroundOption = None,
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the images.")] = None,
    max_minutes: Annotated[
        float | None, typer.Option("--max-minutes", help="Wall-clock limit of the whole run.")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Seed of everything random.")] = None,
    device: Annotated[DeviceName, typer.Option("--device", help="auto, cpu or cuda.")] = "auto",
    tiles: TilesOption = None,
    keep_aspect: KeepAspectOption = False,
    ignore_mask: IgnoreMaskOption = None,
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Continue the run in --out with its own settings; limits may be given anew.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Train on images of good parts; Ctrl-C saves, --resume continues.

    On several GPUs: torchrun --nproc-per-node 4 -m dad_edge train --data DIR; the same batch is
    then shared by all of them.
    """
    require("torch", "train", "train")
    from dad_edge.cli.progress import progress_bar
    from dad_edge.data.dataset import TrainingSet
    from dad_edge.data.depth import with_depth
    from dad_edge.data.layouts import find_layout
    from dad_edge.image.framing import ignore_in, read_ignore
    from dad_edge.learn.origin import origin_of
    from dad_edge.learn.recipes import choose_recipe, prepare_recipe
    from dad_edge.learn.samples import SampleSheet
    from dad_edge.learn.train import train

    if resume:
        _refuse_with_resume(
            recipe=recipe,
            fusion=fusion,
            encoder=encoder,
            foreground=foreground,
            seed=seed,
            tiles=tiles,
            keep_aspect=keep_aspect,
            ignore_mask=ignore_mask,
        )
    settings = choose_recipe(
        size or "nano",
        recipe,
        fusion=fusion,
        encoder=encoder,
        epochs=epochs,
        max_minutes=max_minutes,
        seed=seed,
    )
    settings = _with_images(settings, foreground, tiles, keep_aspect)
    find_layout(data)
    folder = out or Path("runs") / f"{_name_of(data)}-{settings.model.size}"
    settings = prepare_recipe(
        settings, folder, resume, size=size, epochs=epochs, max_minutes=max_minutes
    )
    if not resume:
        model = with_depth(settings.model, data)
        if recipe is None:
            model = _with_own_tiles(model, data, tiles, keep_aspect)
        settings = replace(settings, model=model)
    ignore = read_ignore(ignore_mask) if ignore_mask else ignore_in(folder) if resume else None
    with progress_bar("reading images") as progress:
        images = TrainingSet(data, settings.model, settings.train, textures, progress, ignore)
    kind = "objects on a background" if images.foregrounds else "textures"
    kept_out = len(images.parts.kept_out)
    say(
        f"{len(images)} normal images, seen as {kind}, and {kept_out} parts kept out to measure; "
        f"run folder {folder}"
    )
    with progress_bar(f"training {settings.model.size}") as progress:
        summary = train(
            settings,
            images,
            folder,
            resume=resume,
            device=device,
            origin=origin_of(data, textures),
            ignore=ignore,
            on_step=lambda step: progress(step.fraction, 1.0, step.note),
            on_save=SampleSheet(images, folder).write,
        )
    if follows():
        return
    say(f"step {summary['step']}: weights in {folder}")
    say(f"next: dad-edge evaluate --data {data} --checkpoint {folder}")
    if as_json:
        emit(summary)


def _name_of(data: Path) -> str:
    """Name of a data folder as the user called it, also where that is a link to another one."""
    return data.name if data.name not in ("", "..") else data.resolve().name


def _with_images(
    recipe: Recipe, foreground: Foreground | None, tiles: str | None, keep_aspect: bool
) -> Recipe:
    """The recipe with what the command line says about the images."""
    from dad_edge.image.framing import choose_framing

    framing = choose_framing(recipe.model.framing, tiles, keep_aspect)
    train = replace(recipe.train, foreground=foreground or recipe.train.foreground)
    return replace(recipe, model=replace(recipe.model, framing=framing), train=train)


def _with_own_tiles(
    model: ModelConfig, data: Path, tiles: str | None, keep_aspect: bool
) -> ModelConfig:
    """The model with tiles for long parts, unless the command line or the paper says otherwise."""
    from dad_edge.data.tiles import with_tiles

    if tiles is not None or keep_aspect or model.size == "paper":
        return model
    chosen = with_tiles(model, data)
    if chosen.framing.tiles != model.framing.tiles:
        rows, columns = chosen.framing.tiles
        say(f"long images: {rows}x{columns} tiles; --tiles 1x1 looks at the whole frame at once")
    return chosen


def _refuse_with_resume(**options: object) -> None:
    """Refuse settings for a resumed run, which has its own already."""
    given = [
        f"--{name.replace('_', '-')}"
        for name, value in options.items()
        if value is not None and value is not False
    ]
    if given:
        raise UsageError(
            f"a resumed run has its settings already; {', '.join(given)} would change them.",
            "leave them out, or start another run with another --out",
        )


def evaluate_command(
    data: DataOption,
    split: Annotated[
        Literal["test", "train"], typer.Option("--split", help="test, or train (good parts only).")
    ] = "test",
    bundle: BundleOption = None,
    engine: EngineOption = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            "--checkpoint",
            help="Folder of a training run; it is evaluated on PyTorch.",
        ),
    ] = None,
    device: Annotated[
        DeviceName, typer.Option("--device", help="Of --checkpoint: auto, cpu or cuda.")
    ] = "auto",
    out: Annotated[
        Path | None,
        typer.Option("--out", help="Folder of the report; reports/ beside the model if left out."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Measure image AUROC, pixel AUROC, pixel AP and PRO, and write a report with pictures."""
    from rich.console import Console

    from dad_edge.cli.progress import progress_bar
    from dad_edge.data.layouts import find_layout
    from dad_edge.report.evaluate import bundle_candidate, checkpoint_candidate, evaluate
    from dad_edge.report.page import write_report
    from dad_edge.report.results import report_data
    from dad_edge.report.table import report_tables

    if checkpoint is not None and (bundle is not None or engine is not None):
        raise UsageError(
            "--checkpoint and --bundle or --engine name two models.",
            "evaluate one of them at a time",
        )
    if checkpoint is not None:
        say(f"checkpoint: {checkpoint}")
        candidate = checkpoint_candidate(checkpoint, device=device)
    else:
        candidate = bundle_candidate(chosen_bundle(bundle), engine=engine)
    say(f"backend: {candidate.inspector.backend}")
    find_layout(data)
    folder = out or candidate.default_folder(data, split)
    # Find out before the work, and not after it, that the folder cannot be written.
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    with candidate.inspector, progress_bar("inspecting") as progress:
        report = evaluate(candidate, data, split, progress)
    page = write_report(report, folder)
    Console(stderr=True).print(report_tables(report))
    say(f"wrote {page}")
    if as_json:
        emit(report_data(report))


def import_command(
    checkpoint: Annotated[
        Path, typer.Argument(help="A .pt file that the authors' training code wrote.")
    ],
    out: Annotated[Path, typer.Option("--out", help="New folder of the run.")],
    fusion: Annotated[
        Fusion, typer.Option("--fusion", help="norm_guided as their code does, or average.")
    ] = "norm_guided",
    as_json: JsonOption = False,
) -> None:
    """Turn a checkpoint of the authors' DiffusionAD code into a run to evaluate and export."""
    from dad_edge.documents import to_mapping
    from dad_edge.model.import_authors import import_checkpoint

    recipe = import_checkpoint(checkpoint, out, fusion=fusion)
    model = recipe.model
    say(
        f"{model.image_size} pixels, {model.denoiser.base_channels} base channels, fusion "
        f"{model.fusion} at λ = {', '.join(map(str, model.lambdas))}; run folder {out}"
    )
    say(f"next: dad-edge export --checkpoint {out}")
    if as_json:
        emit({"folder": str(out), "recipe": to_mapping(recipe)})


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
    from dad_edge.deploy.export import TOLERANCE, export

    bundle, parity = export(checkpoint, out, class_name=class_name, replace=replace)
    say(
        f"PASSED: ONNX Runtime agrees with PyTorch, mask {parity.mask:.1e}, score "
        f"{parity.score:.1e} (allowed {TOLERANCE:.0e})"
    )
    say(f"bundle in {bundle.path}; next: dad-edge calibrate --data DIR --bundle {bundle.path}")
    if as_json:
        emit({"bundle": str(out), "mask_difference": parity.mask, "score_difference": parity.score})


COMMANDS = {
    "demo-data": demo_data_command,
    "preview-anomalies": preview_command,
    "train": train_command,
    "import": import_command,
    "evaluate": evaluate_command,
    "export": export_command,
}
"""Name on the command line → function."""
