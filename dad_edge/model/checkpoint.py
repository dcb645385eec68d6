"""A training run on disk: safetensors and a recipe, nothing that executes when read.

runs/NAME/
  recipe.toml          settings that made it
  model.safetensors    weights to evaluate and export
  state.safetensors    weights, optimiser and weight average to resume from
  parts.json           which good parts taught it and which were kept out
  log.jsonl            one line an interval
  samples/             pictures
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dad_edge.config import Recipe, read_recipe
from dad_edge.documents import to_mapping
from dad_edge.errors import ModelError, require
from dad_edge.files import write_whole

if TYPE_CHECKING:
    from torch import Tensor

    from dad_edge.model.ablations import AnyDetector

RECIPE = "recipe.toml"
WEIGHTS = "model.safetensors"
STATE = "state.safetensors"


def write_recipe(folder: Path, recipe: Recipe) -> None:
    """Write the recipe beside the weights.

    Raises:
        StorageError: the file cannot be written.
    """
    tomli_w = require("tomli_w", "train", "write recipes")
    write_whole(folder / RECIPE, tomli_w.dumps(to_mapping(recipe)).encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file; readers see the old or the new one, never half of it.

    Raises:
        StorageError: the file cannot be written; the old one is untouched.
    """
    encode = require("safetensors.torch", "train", "write checkpoints").save
    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_whole(path, encode(plain, metadata))


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file.

    Raises:
        ModelError: the file is missing or damaged.
    """
    safetensors = require("safetensors", "train", "read checkpoints")
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118 (not a dict)
    except FileNotFoundError as error:
        raise ModelError(
            f"{path} does not exist.", "give the folder of a run that 'dad-edge train' made"
        ) from error
    except (safetensors.SafetensorError, OSError) as error:
        raise ModelError(
            f"{path} is damaged: {error}.", "copy the file again, or train again"
        ) from error


def load_detector(folder: Path) -> tuple[AnyDetector, Recipe]:
    """The detector of a run, in evaluation mode on the CPU.

    Args:
        folder: folder of the run.

    Raises:
        ModelError: a file is missing or damaged, or weights and recipe do not fit.
    """
    from dad_edge.model.ablations import build_detector

    if not folder.is_dir():
        raise ModelError(
            f"{folder} is not the folder of a run.",
            f"give the folder that holds {RECIPE} and {WEIGHTS}",
        )
    recipe = read_recipe(folder / RECIPE)
    tensors, _ = read_tensors(folder / WEIGHTS)
    detector = build_detector(recipe.model)
    try:
        detector.load_state_dict(tensors)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1].strip()
        raise ModelError(
            f"{folder / WEIGHTS} does not fit the size '{recipe.model.size}' of its recipe: "
            f"{reason}",
            f"keep {RECIPE} and {WEIGHTS} of one run together",
        ) from error
    return detector.eval(), recipe
