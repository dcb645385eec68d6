"""Which recipe a training run uses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from dad_edge.config import RECIPES, EncoderName, Fusion, Recipe, SizeName, read_recipe
from dad_edge.errors import ModelError, UsageError
from dad_edge.model import checkpoint


def norm_guided(recipe: Recipe) -> Recipe:
    """The recipe with the journal version's fusion, trained as the authors' released code does.

    β up to 2e-2, time steps 200 and 400, two ranges of time steps over the whole schedule, and
    noise loss on normal images only; sizes, rates and durations stay.
    """
    schedule = replace(recipe.model.schedule, beta_end=2e-2)
    return replace(
        recipe,
        model=replace(recipe.model, fusion="norm_guided", lambdas=(200, 400), schedule=schedule),
        train=replace(recipe.train, max_timestep=schedule.timesteps, noise_loss_on="normal"),
    )


def choose_recipe(
    size: SizeName,
    file: Path | None = None,
    *,
    fusion: Fusion | None = None,
    encoder: EncoderName | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
    seed: int | None = None,
) -> Recipe:
    """The recipe of a size or a file, with the limits of the command line.

    Raises:
        UsageError: the recipe has another fusion, or a limit is not positive.
        ModelError: the file is not a recipe.
    """
    recipe = read_recipe(file) if file else RECIPES[size]
    if fusion == "norm_guided":
        recipe = norm_guided(recipe)
    elif fusion not in (None, recipe.model.fusion):
        raise UsageError(
            f"fusion '{fusion}' is not that of the recipe, {recipe.model.fusion}.",
            "use --fusion norm_guided, or leave it out",
        )
    if encoder is not None:
        segmenter = replace(recipe.model.segmenter, encoder=encoder)
        recipe = replace(recipe, model=replace(recipe.model, segmenter=segmenter))
    changes: dict[str, Any] = {"epochs": epochs, "max_minutes": max_minutes, "seed": seed}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, train=replace(recipe.train, **given))


def prepare_recipe(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    *,
    size: SizeName | None = None,
    epochs: int | None = None,
    max_minutes: float | None = None,
) -> Recipe:
    """The recipe of this run: the given one, or the one to resume.

    Args:
        recipe: of a new run.
        folder: of the run.
        resume: continue the run that lies there, with its own settings.
        size: the size that the run to resume should have; any if None.
        epochs: a new limit of a resumed run; its own if None.
        max_minutes: likewise.

    Raises:
        UsageError: the folder holds a run already and resuming was not asked for, or the run to
            resume has another size.
        ModelError: there is nothing to resume.
    """
    if resume:
        if not (folder / checkpoint.STATE).is_file():
            raise ModelError(
                f"{folder} holds no run to resume.", "leave --resume out to start one there"
            )
        earlier = read_recipe(folder / checkpoint.RECIPE)
        if size not in (None, earlier.model.size):
            raise UsageError(
                f"the run in {folder} has the size '{earlier.model.size}', not '{size}'.",
                "leave --size out, or start another run with another --out",
            )
        limits: dict[str, Any] = {"epochs": epochs, "max_minutes": max_minutes}
        given = {name: value for name, value in limits.items() if value is not None}
        return replace(earlier, train=replace(earlier.train, **given))
    refuse_earlier_run(folder)
    return recipe


def refuse_earlier_run(folder: Path) -> None:
    """Refuse to replace a run that was saved in a folder.

    Raises:
        UsageError: there is one.
    """
    if any((folder / name).is_file() for name in (checkpoint.STATE, checkpoint.WEIGHTS)):
        raise UsageError(f"{folder} holds a run already.", "add --resume, or choose another --out")
