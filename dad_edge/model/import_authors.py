"""A checkpoint of the authors' code → a run of this project, with a recipe that says what it is.

Widths, levels and blocks follow from the weights; image size, attention, heads and time steps
from the settings beside them. What neither holds is fixed in the authors' code: 32 groups in every
GroupNorm, a linear schedule to 2e-2, images in [0, 1].
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dad_edge.config import (
    RECIPES,
    DenoiserConfig,
    Fusion,
    ModelConfig,
    Recipe,
    ScheduleConfig,
    SegmenterConfig,
    TrainConfig,
)
from dad_edge.documents import from_mapping
from dad_edge.errors import ModelError, UsageError, require
from dad_edge.files import new_folder
from dad_edge.model.authors import AuthorsCheckpoint, read_authors_checkpoint
from dad_edge.model.checkpoint import WEIGHTS, write_recipe, write_tensors

if TYPE_CHECKING:
    from torch import Tensor

NORM_GROUPS = 32
"""Groups of every GroupNorm in the authors' code; no setting of theirs changes it."""
BETAS = (1e-4, 2e-2)
"""β_1 and β_T of their linear schedule of 1000 steps; other lengths scale both by 1000 / T."""
AVERAGE_LAMBDAS = (100, 200)
GUIDED_LAMBDAS = (200, 400)
ONLY = {"beta_schedule": "linear", "noise_fn": "gauss", "channels": 3, "num_head_channels": -1}
"""Settings of theirs that this project has one value of."""

WHOLE_FILE = "give the whole .pt file that their training wrote, or copy it again"
OWN_ARGS = "give a .pt file whose 'args' are those it was trained with"


def import_checkpoint(path: Path, out: Path, *, fusion: Fusion = "norm_guided") -> Recipe:
    """Write the run folder of a checkpoint that the authors' training wrote.

    Args:
        path: the `.pt` file; nothing in it is executed.
        out: folder of the run; it appears only when it is complete.
        fusion: `norm_guided` as their code evaluates, or `average` (Algorithm 2).

    Returns:
        The recipe in the folder.

    Raises:
        ModelError: the file is damaged or of other networks, or weights and settings do not fit.
        StorageError: the folder exists already or cannot be written.
    """
    checkpoint = read_authors_checkpoint(path)
    weights = joined_weights(checkpoint)
    recipe = infer_recipe(weights, checkpoint.args, fusion)
    fitting = fit_weights(weights, recipe.model)
    with new_folder(out) as folder:
        write_recipe(folder, recipe)
        write_tensors(folder / WEIGHTS, fitting, {"source": path.name})
    return recipe


def joined_weights(checkpoint: AuthorsCheckpoint) -> dict[str, Tensor]:
    """Weights of both networks under the names of `Detector`.

    Raises:
        ModelError: an entry is not a tensor of finite numbers.
    """
    torch = require("torch", "train", "import checkpoints")
    weights = {f"denoiser.{name}": value for name, value in checkpoint.denoiser.items()}
    weights |= {f"segmenter.{name}": value for name, value in checkpoint.segmenter.items()}
    for name, value in weights.items():
        if not isinstance(value, torch.Tensor):
            raise ModelError(f"'{name}' of the checkpoint is not a tensor.", WHOLE_FILE)
        if not torch.isfinite(value).all():
            raise ModelError(
                f"tensor '{name}' of the checkpoint holds numbers that are not finite.",
                "their training diverged: give an earlier checkpoint",
            )
    return weights


def infer_recipe(weights: Mapping[str, Tensor], args: Mapping[str, Any], fusion: Fusion) -> Recipe:
    """The recipe of a checkpoint.

    Args:
        weights: weights under the names of `Detector`.
        args: their settings.
        fusion: of the inference.

    Raises:
        ModelError: a tensor or a setting is missing, or this project has no such network.
    """
    for key, value in ONLY.items():
        if args.get(key, value) != value:
            raise ModelError(
                f"their setting '{key}' is {args[key]!r}; only {value!r} can be imported.",
                f"import a checkpoint that was trained with {value!r}",
            )
    if fusion == "norm_guided" and args.get("condition_w", 1) != 1:
        raise ModelError(
            f"their setting 'condition_w' is {args['condition_w']!r}; norm guidance has weight 1.",
            "import it with --fusion average",
        )
    steps = _whole_number(args, "T")
    try:
        denoiser = _denoiser_config(weights, args)
        segmenter = SegmenterConfig(base_width=_outputs(weights, "segmenter.encoder.0.0.0.weight"))
        paper = RECIPES["paper"].model
        is_paper = (denoiser, segmenter) == (paper.denoiser, paper.segmenter)
        return Recipe(
            model=ModelConfig(
                size="paper" if is_paper else "edge",  # 32 groups are too many for `nano`
                image_size=_image_size(args),
                denoiser=denoiser,
                segmenter=segmenter,
                schedule=ScheduleConfig(
                    timesteps=steps,
                    beta_start=BETAS[0] * 1000 / steps,
                    beta_end=BETAS[1] * 1000 / steps,
                ),
                lambdas=_guided_lambdas(args) if fusion == "norm_guided" else AVERAGE_LAMBDAS,
                fusion=fusion,
                value_range=(0.0, 1.0),
            ),
            train=_train_config(args, steps),
        )
    except UsageError as error:
        raise ModelError(f"the checkpoint cannot be imported: {error.message}", OWN_ARGS) from error


def fit_weights(weights: Mapping[str, Tensor], model: ModelConfig) -> dict[str, Tensor]:
    """The weights in the types of `Detector`, once each of them has its place.

    Raises:
        ModelError: a tensor is missing, has another shape, or has no place.
    """
    torch = require("torch", "train", "import checkpoints")
    from dad_edge.model.detector import Detector

    with torch.device("meta"):
        places = Detector(model).state_dict()
    for name, place in places.items():
        if name not in weights:
            raise ModelError(f"the checkpoint has no tensor '{name}'.", WHOLE_FILE)
        found, expected = tuple(weights[name].shape), tuple(place.shape)
        if found != expected:
            raise ModelError(
                f"tensor '{name}' of the checkpoint has the shape {found}; the other tensors ask "
                f"for {expected}.",
                WHOLE_FILE,
            )
    for name in weights:
        if name not in places:
            raise ModelError(
                f"tensor '{name}' of the checkpoint has no place in a network for "
                f"{model.image_size} pixels with attention at "
                f"{list(model.denoiser.attention_resolutions)}.",
                OWN_ARGS,
            )
    return {name: weights[name].to(place.dtype) for name, place in places.items()}


def _denoiser_config(weights: Mapping[str, Tensor], args: Mapping[str, Any]) -> DenoiserConfig:
    """Levels are read from the way up, where a change of resolution ends each but the last."""
    base = _outputs(weights, "denoiser.stem.weight")
    up = [name for name in weights if name.startswith("denoiser.up.")]
    count = max((_stage(name) for name in up), default=0) + 1
    per_level = min((_stage(name) + 1 for name in up if ".resample." in name), default=count)
    mults = []
    for stage in reversed(range(0, count, per_level)):
        name = f"denoiser.up.{stage}.block.conv_in.weight"
        width = _outputs(weights, name)
        if width % base:
            raise ModelError(
                f"tensor '{name}' of the checkpoint has {width} channels, not a multiple of the "
                f"{base} of 'denoiser.stem.weight'.",
                "import a checkpoint with whole channel multipliers",
            )
        mults.append(width // base)
    return DenoiserConfig(
        base_channels=base,
        channel_mults=tuple(mults),
        res_blocks=per_level - 1,
        attention_resolutions=_attention_resolutions(args),
        heads=_whole_number(args, "num_heads"),
        norm_groups=NORM_GROUPS,
    )


def _train_config(args: Mapping[str, Any], steps: int) -> TrainConfig:
    """How they trained, as far as a recipe can say it."""
    ours = {"batch_size": "Batch_Size", "epochs": "EPOCHS", "learning_rate": "diffusion_lr"}
    known = {name: args[theirs] for name, theirs in ours.items() if theirs in args}
    settings = {**known, "max_timestep": steps, "noise_loss_on": "normal"}
    own, denoiser = args.get("seg_lr"), args.get("diffusion_lr")
    if isinstance(own, float) and isinstance(denoiser, float) and denoiser:
        settings["segmenter_rate"] = own / denoiser
    return from_mapping(TrainConfig, settings, "their settings")


def _stage(name: str) -> int:
    """5 of `denoiser.up.5.block.conv_in.weight`."""
    return int(name.split(".")[2])


def _outputs(weights: Mapping[str, Tensor], name: str) -> int:
    if name not in weights:
        raise ModelError(f"the checkpoint has no tensor '{name}'.", WHOLE_FILE)
    shape = tuple(weights[name].shape)
    if len(shape) != 4 or not shape[0]:
        raise ModelError(
            f"tensor '{name}' of the checkpoint has the shape {shape}; a convolution has four "
            "dimensions.",
            WHOLE_FILE,
        )
    return int(shape[0])


def _whole_number(args: Mapping[str, Any], key: str) -> int:
    value = args.get(key)
    if type(value) is not int or value < 1:
        raise _bad_setting(args, key, "a whole number above 0")
    return value


def _image_size(args: Mapping[str, Any]) -> int:
    value = args.get("img_size")
    sides = set(value) if isinstance(value, (list, tuple)) else {value}
    side = sides.pop() if len(sides) == 1 else None
    if type(side) is not int or side < 1:
        raise _bad_setting(args, "img_size", "a square such as [256, 256]")
    return side


def _attention_resolutions(args: Mapping[str, Any]) -> tuple[int, ...]:
    value = args.get("attention_resolutions")
    try:
        return tuple(int(side) for side in value.split(","))  # type: ignore[union-attr]
    except (AttributeError, ValueError) as error:
        raise _bad_setting(args, "attention_resolutions", "a text such as '32,16,8'") from error


def _guided_lambdas(args: Mapping[str, Any]) -> tuple[int, ...]:
    keys = ("eval_normal_t", "eval_noisier_t")
    return tuple(
        _whole_number(args, key) if key in args else default
        for key, default in zip(keys, GUIDED_LAMBDAS, strict=True)
    )


def _bad_setting(args: Mapping[str, Any], key: str, needed: str) -> ModelError:
    found = f"is {args[key]!r}" if key in args else "is missing"
    return ModelError(f"their setting '{key}' {found}; {needed} is needed.", OWN_ARGS)
