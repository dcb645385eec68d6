"""Frozen settings of a model and of a training run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dad_edge.documents import read_toml
from dad_edge.errors import UsageError

Fusion = Literal["average", "norm_guided"]
Method = Literal["DiffusionAD", "DenoisingAD", "DRAEM+", "SegmentationAD"]
Foreground = Literal["auto", "object", "texture"]
Prediction = Literal["noise", "image"]
Patch = Literal[1, 2, 4, 8]
EncoderName = Literal["none", "efficientnet-lite0"]
SizeName = Literal["nano", "edge", "paper"]
BitDepth = Literal[8, 10, 12, 14, 16]
Precision = Literal["fp32", "fp16", "int8"]
RuntimeName = Literal["onnxruntime", "openvino", "tensorrt", "tensorrt-rtx"]

GOOD = "good"
"""Name of the kind that has no defect."""


# Larger values are slips of the hand, which would fill the memory before anything refused them.
_MOST_TIMESTEPS = 100_000
_LARGEST_SIDE = 4096
_MOST_TILES = 32
_MOST_CHANNELS = 8192
_WIDEST_BLOCK = 8
_MOST_BLOCKS = 32
_MOST_LAMBDAS = 32
_LARGEST_BATCH = 4096


def _at_most(largest: int, **values: int) -> None:
    for name, value in values.items():
        if value > largest:
            raise UsageError(f"{name} must be at most {largest}, got {value}.", "correct the value")


def _positive(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise UsageError(f"{name} must be a positive number, got {value}.", "correct the value")


@dataclass(frozen=True, kw_only=True, slots=True)
class ScheduleConfig:
    """Linear noise schedule of the forward process (Eq. 1-2)."""

    timesteps: int = 1000
    """T, number of diffusion steps."""
    beta_start: float = 1e-4
    """β_1."""
    beta_end: float = 1e-2
    """β_T. The paper states 1e-2; the authors' released code uses 2e-2."""

    def __post_init__(self) -> None:
        if not 1 <= self.timesteps <= _MOST_TIMESTEPS:
            raise UsageError(
                f"timesteps must lie in 1..{_MOST_TIMESTEPS}, got {self.timesteps}.",
                "use the paper's 1000",
            )
        if not 0 < self.beta_start <= self.beta_end < 1:
            raise UsageError(
                f"schedule needs 0 < beta_start ≤ beta_end < 1, got {self.beta_start} and "
                f"{self.beta_end}.",
                "use the paper's 1e-4 and 1e-2",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DenoiserConfig:
    """Denoising sub-network ε_θ: a residual U-Net with time embedding and attention."""

    patch: Patch = 1
    """Side, in pixels, of the patches that the first convolution turns into one position each."""
    predicts: Prediction = "noise"
    """What comes out of the last convolution: ε̂ as in the paper, or x̂0, from which ε̂ follows."""
    base_channels: int = 128
    """Channels of the first level; a multiple of `norm_groups`."""
    channel_mults: tuple[int, ...] = (1, 1, 2, 2, 4, 4)
    """Channel multiplier of each level, full resolution first."""
    res_blocks: int = 2
    """Residual blocks a level."""
    attention_resolutions: tuple[int, ...] = (32, 16, 8)
    """Feature-map sides, in pixels, that get self-attention."""
    heads: int = 4
    """Attention heads."""
    norm_groups: int = 32
    """Groups of every GroupNorm."""

    def __post_init__(self) -> None:
        _positive(
            base_channels=self.base_channels,
            res_blocks=self.res_blocks,
            heads=self.heads,
            norm_groups=self.norm_groups,
            channel_mults=min(self.channel_mults, default=0),
        )
        _at_most(_MOST_BLOCKS, res_blocks=self.res_blocks)
        _at_most(_MOST_CHANNELS, base_channels=self.base_channels)
        _at_most(_MOST_CHANNELS // self.base_channels, channel_mults=max(self.channel_mults))
        if self.base_channels % self.norm_groups or self.base_channels % self.heads:
            raise UsageError(
                f"base_channels {self.base_channels} must be a multiple of norm_groups "
                f"{self.norm_groups} and of heads {self.heads}.",
                "change base_channels in the recipe",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmenterConfig:
    """Segmentation sub-network: a U-Net with six encoder blocks."""

    patch: Patch = 1
    """Side, in pixels, of the patches that the first convolution turns into one position each."""
    base_width: int = 64
    """Channels of the first block."""
    encoder: EncoderName = "none"
    """Frozen features of photographs that image and x̂0 are compared by; the paper has none."""

    def __post_init__(self) -> None:
        _positive(base_width=self.base_width)
        _at_most(_MOST_CHANNELS // _WIDEST_BLOCK, base_width=self.base_width)


@dataclass(frozen=True, kw_only=True, slots=True)
class FramingConfig:
    """How a frame becomes the square views that the networks see; by default one, stretched."""

    tiles: tuple[int, int] = (1, 1)
    """Rows and columns of overlapping tiles that cover the frame."""
    overlap: float = 0.125
    """Share of a tile's side that it has in common with the next tile."""
    keep_aspect: bool = False
    """Continue the frame by its border pixels instead of stretching it."""

    def __post_init__(self) -> None:
        if not 1 <= min(self.tiles) <= max(self.tiles) <= _MOST_TILES:
            raise UsageError(
                f"tiles must lie in 1..{_MOST_TILES} along each side, got {list(self.tiles)}.",
                "use [1, 1] for the whole frame or [2, 3] for two rows of three",
            )
        if not 0 <= self.overlap <= 0.5:
            raise UsageError(
                f"overlap must lie in [0, 0.5], got {self.overlap}.", "use the default, 0.125"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """Everything that inference with a set of weights depends on."""

    size: SizeName = "paper"
    """Name of the model size."""
    method: Method = "DiffusionAD"
    """DiffusionAD, or one of the ablations of Table 3, which are trained and evaluated only."""
    image_size: int = 256
    """S, side of the square model input in pixels."""
    denoiser: DenoiserConfig = field(default_factory=DenoiserConfig)
    segmenter: SegmenterConfig = field(default_factory=SegmenterConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    lambdas: tuple[int, ...] = (100, 200)
    """Partial time steps λ of the inference, ascending; an index into the ᾱ table."""
    fusion: Fusion = "average"
    """`average` over all λ (Algorithm 2), or `norm_guided` with two (journal version)."""
    value_range: tuple[float, float] = (0.0, 1.0)
    """Range to which pixel values 0..255 are scaled."""
    bit_depth: BitDepth | None = None
    """Bits that the values of 16-bit images use, found from the training images; None where these
    have 8 bits."""
    top_k: int = 50
    """K, number of highest pixels whose mean is the image score."""
    framing: FramingConfig = field(default_factory=FramingConfig)

    def __post_init__(self) -> None:
        if not 1 <= self.image_size <= _LARGEST_SIDE:
            raise UsageError(
                f"image_size must lie in 1..{_LARGEST_SIDE}, got {self.image_size}.",
                "choose 128 or 256",
            )
        if not -math.inf < self.value_range[0] < self.value_range[1] < math.inf:
            raise UsageError(
                f"value_range must ascend, got {list(self.value_range)}.",
                "use 0 and 1 as the authors' code does, or -1 and 1",
            )
        if self.bit_depth not in (None, 8, 10, 12, 14, 16):
            raise UsageError(
                f"bit_depth must be 8, 10, 12, 14 or 16, got {self.bit_depth}.",
                "use the depth of the camera, or leave it out to have it found",
            )
        steps = self.schedule.timesteps
        if not self.lambdas or list(self.lambdas) != sorted(set(self.lambdas)):
            raise UsageError(
                f"lambdas must be ascending and different, got {list(self.lambdas)}.",
                "use the paper's 100 and 200",
            )
        _at_most(_MOST_LAMBDAS, **{"number of lambdas": len(self.lambdas)})
        if self.lambdas[0] < 1 or self.lambdas[-1] >= steps:
            raise UsageError(
                f"lambdas must lie in 1..{steps - 1}, got {list(self.lambdas)}.",
                "use the paper's 100 and 200",
            )
        if self.method != "DiffusionAD" and self.fusion != "average":
            raise UsageError(
                f"{self.method} has nothing to guide.", "use fusion 'average' for ablations"
            )
        if self.fusion == "norm_guided" and len(self.lambdas) != 2:
            raise UsageError(
                f"norm_guided fusion needs two lambdas, got {list(self.lambdas)}.",
                "use 200 and 400 as the journal version does",
            )
        shrink = max(
            self.denoiser.patch * 2 ** (len(self.denoiser.channel_mults) - 1),
            self.segmenter.patch * 2**5,
        )
        if self.image_size % shrink:
            raise UsageError(
                f"image_size {self.image_size} must be a multiple of {shrink}.",
                "choose 128 or 256",
            )
        if not 1 <= self.top_k <= self.image_size**2:
            raise UsageError(
                f"top_k must lie in 1..{self.image_size**2}, got {self.top_k}.",
                "use the paper's 50",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainConfig:
    """One training run (Algorithm 1)."""

    batch_size: int = 6
    """Images a step, half of them with a synthetic anomaly; even."""
    learning_rate: float = 1e-4
    """Peak learning rate of Adam."""
    segmenter_rate: float = 1.0
    """Learning rate of the segmenter as a share of `learning_rate`; 0.1 in the authors' code."""
    epochs: int = 500
    """Passes over the normal images; ignored when `max_minutes` ends the run first."""
    max_minutes: float | None = None
    """Wall-clock limit in minutes, counted over all resumed parts."""
    cosine: bool = False
    """Decay the learning rate to zero along a half cosine over the run."""
    ema_decay: float = 0.0
    """Decay of the average of the weights, which is evaluated and exported; 0 for no average."""
    max_timestep: int = 1000
    """Time steps drawn in training are below this; the paper draws from all T."""
    split_timestep: int = 300
    """norm_guided: the smaller time step is drawn below this, the larger one from here up."""
    focal_weight: float = 5.0
    """γ of Eq. 8."""
    noise_loss_on: Literal["all", "normal"] = "all"
    """Images that count in the noise loss: all (the paper) or normal ones (authors' code)."""
    snr_limit: float = 0.0
    """The noise loss of an image counts min(1, limit / SNR), with SNR = ᾱ/(1-ᾱ); 0 for no limit."""
    foreground: Foreground = "auto"
    """Where synthetic anomalies may lie: on the object, on a random part of a texture, or `auto`:
    decided from the images."""
    defect_share: float = 0.0
    """Share of the synthetic anomalies that are drawn defects, not those of Eq. 9."""
    grad_clip: float = 0.0
    """Largest gradient norm; 0 for no clipping."""
    compile: bool = False
    """Compile the training step with `torch.compile`: it starts slowly and is faster on GPUs."""
    seed: int = 0
    """Seed of weights, order, synthesis and noise."""

    def __post_init__(self) -> None:
        if self.batch_size < 2 or self.batch_size % 2:
            raise UsageError(
                f"batch_size must be even and at least 2, got {self.batch_size}.",
                "half of every batch is normal, half synthetic: use 6, 8, 16 …",
            )
        if not 0 <= self.defect_share <= 1:
            raise UsageError(
                f"defect_share must lie in [0, 1], got {self.defect_share}.", "use 0.5"
            )
        _at_most(_LARGEST_BATCH, batch_size=self.batch_size)
        _positive(
            learning_rate=self.learning_rate,
            segmenter_rate=self.segmenter_rate,
            max_timestep=self.max_timestep,
        )
        if not 0 <= self.ema_decay < 1:
            raise UsageError(f"ema_decay must lie in [0, 1), got {self.ema_decay}.", "use 0.99")
        for name in ("focal_weight", "snr_limit", "grad_clip"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UsageError(
                    f"{name} must not be negative, got {getattr(self, name)}.", "correct the value"
                )
        if not 0 <= self.seed < 2**63:
            raise UsageError(f"seed must lie in 0..2^63-1, got {self.seed}.", "use --seed 0")
        minutes = 1.0 if self.max_minutes is None else self.max_minutes
        if self.epochs < 1 or not 0 < minutes < math.inf:
            raise UsageError(
                f"epochs and max-minutes must be positive, got {self.epochs} and "
                f"{self.max_minutes}.",
                "use --epochs 500 or --max-minutes 30",
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class Recipe:
    """What made a checkpoint: the model's and the run's settings, written beside the weights."""

    model: ModelConfig = field(default_factory=ModelConfig)
    train: TrainConfig = field(default_factory=TrainConfig)

    def __post_init__(self) -> None:
        if self.train.max_timestep > self.model.schedule.timesteps:
            raise UsageError(
                f"max_timestep {self.train.max_timestep} is above the schedule's "
                f"{self.model.schedule.timesteps} steps.",
                "lower max_timestep",
            )
        if self.model.fusion == "norm_guided":
            split, largest = self.train.split_timestep, self.train.max_timestep
            if not 0 < split < largest:
                raise UsageError(
                    f"norm_guided needs 0 < split_timestep < max_timestep, got {split} and "
                    f"{largest}.",
                    "use 300 and 1000 as the authors' code does",
                )


_SMALL = TrainConfig(
    batch_size=8,
    learning_rate=1e-3,
    epochs=200,
    cosine=True,
    ema_decay=0.99,
    max_timestep=400,
    snr_limit=5.0,
    defect_share=0.3,
    grad_clip=1.0,
)
"""How the small sizes are trained."""

RECIPES: dict[SizeName, Recipe] = {
    "paper": Recipe(),
    "edge": Recipe(
        model=ModelConfig(
            size="edge",
            denoiser=DenoiserConfig(
                patch=4,
                predicts="image",
                base_channels=32,
                channel_mults=(1, 2, 3, 3),
                res_blocks=1,
                attention_resolutions=(16,),
                norm_groups=8,
            ),
            segmenter=SegmenterConfig(patch=2, base_width=24, encoder="efficientnet-lite0"),
        ),
        train=_SMALL,
    ),
    "nano": Recipe(
        model=ModelConfig(
            size="nano",
            denoiser=DenoiserConfig(
                patch=4,
                predicts="image",
                base_channels=16,
                channel_mults=(1, 2, 4, 4),
                res_blocks=1,
                attention_resolutions=(16,),
                norm_groups=8,
            ),
            segmenter=SegmenterConfig(patch=2, base_width=16, encoder="efficientnet-lite0"),
        ),
        train=_SMALL,
    ),
}
"""Recipe of each model size; `paper` is the paper's configuration."""


def read_recipe(path: Path) -> Recipe:
    """Read the `recipe.toml` of a run.

    Raises:
        ModelError: the file is missing, is not TOML, or holds an unknown key.
    """
    return read_toml(Recipe, path)
