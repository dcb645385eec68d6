"""Checkpoints of the authors' released code: safe reading, names of this project's networks."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from dad_edge.errors import ModelError, require

if TYPE_CHECKING:
    from torch import Tensor

V = TypeVar("V")

_DENOISER_LAYERS = {
    "in_layers.0": "norm_in",
    "in_layers.2": "conv_in",
    "embed_layers.1": "embed",
    "out_layers.0": "norm_out",
    "out_layers.3": "conv_out",
    "skip_connection": "skip",
    "norm": "norm",
    "to_qkv": "qkv",
    "proj_out": "project",
}
_DENOISER_ENDS = {
    "time_embedding.1": "time.expand",
    "time_embedding.3": "time.project",
    "out.0": "norm",
    "out.2": "head",
}
PARTS = ("unet_model_state_dict", "seg_model_state_dict", "args")
"""What a checkpoint of the authors' code holds, among other things."""
_DECODER_LEVELS = ("b", "1", "2", "3", "4")


class AuthorsCheckpoint(NamedTuple):
    """Content of a checkpoint that the authors' training wrote."""

    denoiser: dict[str, Tensor]
    """Weights under the names of `Denoiser`."""
    segmenter: dict[str, Tensor]
    """Weights under the names of `Segmenter`."""
    args: dict[str, Any]
    """Their settings."""


def read_authors_checkpoint(path: Path) -> AuthorsCheckpoint:
    """Read a checkpoint of the authors' code without running anything that it holds.

    PyTorch's restricted reader builds tensors and plain containers only. It refuses to fill the
    `defaultdict(str)` of their settings, so a plain dict is built in its place.

    Raises:
        ModelError: the file is missing, is not such a checkpoint, or holds anything else.
    """
    torch = require("torch", "train", "read checkpoints")
    allowed = [
        (_plain_dict, "collections.defaultdict"),
        (str, "builtins.str"),
        (str, "__builtin__.unicode"),
    ]
    try:
        with torch.serialization.safe_globals(allowed):
            content = torch.load(path, map_location="cpu", weights_only=True)
        missing = [key for key in PARTS if key not in content]
        if missing:
            raise ValueError(f"it has no '{missing[0]}'")
        return AuthorsCheckpoint(
            rename_denoiser(content["unet_model_state_dict"]),
            rename_segmenter(content["seg_model_state_dict"]),
            dict(content["args"]),
        )
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.", "check the path") from error
    except Exception as error:  # a damaged pickle can raise anything
        reason = str(error).strip().split("\n")[0].rstrip(".")
        if isinstance(error, pickle.UnpicklingError):  # PyTorch's own advice is to run the file
            reason = "it is damaged, or holds more than tensors and plain settings"
        raise ModelError(
            f"{path} is not a checkpoint of the authors' code: {reason}.",
            "give a .pt file that their training wrote",
        ) from error


def _plain_dict(default: type) -> dict[str, Any]:
    """Stands in for `defaultdict(default)`, so that a misspelt setting is an error."""
    return {}


def rename_denoiser(weights: Mapping[str, V]) -> dict[str, V]:
    """Names of the authors' U-Net → names of `Denoiser`.

    Raises:
        KeyError: a name is not of the authors' U-Net.
    """
    return {_denoiser_name(name): value for name, value in weights.items()}


def _denoiser_name(name: str) -> str:
    layer, kind = name.rsplit(".", 1)
    if layer in _DENOISER_ENDS:
        return f"{_DENOISER_ENDS[layer]}.{kind}"
    if layer == "down.0.0":
        return f"stem.{kind}"
    match = re.fullmatch(r"(?:(down|up)\.(\d+)\.(\d)|middle\.([012]))\.(.+)", layer)
    if match is None:
        raise KeyError(name)
    side, stage, part, middle, rest = match.groups()
    own = _DENOISER_LAYERS[rest]
    attends = rest in ("norm", "to_qkv", "proj_out")
    if middle is not None:
        place = "middle.1" if middle == "2" else "middle.0"
        return f"{place}.{'attention' if attends else 'block'}.{own}.{kind}"
    if side == "down":
        stage = str(int(stage) - 1)
    member = "attention" if attends else "block" if part == "0" else "resample"
    return f"{side}.{stage}.{member}.{own}.{kind}"


def rename_segmenter(weights: Mapping[str, V]) -> dict[str, V]:
    """Names of the authors' segmentation network → names of `Segmenter`.

    Raises:
        KeyError: a name is not of the authors' segmentation network.
    """
    return {_segmenter_name(name): value for name, value in weights.items()}


def _segmenter_name(name: str) -> str:
    part, block, *rest = name.split(".")
    kind = rest[-1]
    if block == "fin_out":
        return f"head.{kind}"
    position = int(rest[0])
    if part == "encoder_segment":
        level = int(block.removeprefix("block")) - 1
        return f"encoder.{level}.{position // 3}.{position % 3}.{kind}"
    if block.startswith("up"):
        level = _DECODER_LEVELS.index(block.removeprefix("up").removeprefix("_"))
        return f"grow.{level}.{position - 1}.{kind}"
    if block.startswith("db"):
        level = _DECODER_LEVELS.index(block.removeprefix("db").removeprefix("_"))
        return f"decoder.{level}.{position // 3}.{position % 3}.{kind}"
    raise KeyError(name)
