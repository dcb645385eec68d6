"""The ablations of Table 3, behind the same methods as DiffusionAD."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dad_edge.config import ModelConfig, TrainConfig
from dad_edge.model.autoencoder import Autoencoder
from dad_edge.model.detector import Detector, Example, Losses
from dad_edge.model.losses import mask_loss, noise_loss, structural_similarity
from dad_edge.model.segmenter import FeatureSegmenter, Segmenter


class DenoisingAD(Detector):
    """The denoiser alone: the mask is the difference of the image and x̂0.

    Only normal images teach it, because nothing tells it that an anomaly is one.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        del self.segmenter

    def losses(self, example: Example, settings: TrainConfig) -> Losses:
        x_t = self.corrupt(example.image, example.noise[0], example.steps[0])
        predicted = self.denoiser(x_t, example.steps[0]).float()
        restoration = noise_loss(predicted, example.noise[0], example.mask, "normal")
        return Losses(restoration, torch.zeros_like(restoration))

    def score(self, pair: Tensor) -> Tensor:
        """Mean absolute difference over the colours, as a share of the value range."""
        low, high = self.config.value_range
        image, restored = pair.chunk(2, dim=1)
        return (image - restored).abs().mean(dim=1, keepdim=True) / (high - low)


class DirectDetector(nn.Module):
    """Ablations that put no noise on the image."""

    segmenter: Segmenter

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config

    def losses(self, example: Example, settings: TrainConfig) -> Losses:
        """Loss of a training step."""
        raise NotImplementedError

    def denoise(self, x_t: Tensor) -> Tensor:
        """What stands in the place of x̂0: (B,3,S,S) → (B,3,S,S)."""
        raise NotImplementedError

    def score(self, pair: Tensor) -> Tensor:
        """(B,6,S,S) image ⊕ what `denoise` gave → (B,1,S,S) mask in [0,1]."""
        raise NotImplementedError

    def forward(self, image: Tensor, noise_LB3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Inference; the noise is not used.

        Returns:
            Mask (B,1,S,S) in [0,1], and (1,B,3,S,S) of what `denoise` gave.
        """
        restored = self.denoise(image)
        return self.score(torch.cat([image, restored], dim=1)), restored[None]


class SegmentationAD(DirectDetector):
    """The segmenter alone, on the image alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.segmenter = Segmenter(config.segmenter, inputs=3)

    def losses(self, example: Example, settings: TrainConfig) -> Losses:
        logits = self.segmenter(example.image).float()
        mask = mask_loss(logits, example.mask, settings.focal_weight)
        return Losses(torch.zeros_like(mask), mask)

    def denoise(self, x_t: Tensor) -> Tensor:
        return x_t

    def score(self, pair: Tensor) -> Tensor:
        return torch.sigmoid(self.segmenter(pair[:, :3]))


class DraemPlus(DirectDetector):
    """An autoencoder in the denoiser's place, taught to undo the synthetic anomalies.

    Its loss is that of DRAEM (Zavrtanik et al. 2021): mean square and structural similarity to
    the image before the anomaly. The autoencoder has the denoiser's base channels.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.autoencoder = Autoencoder(config.denoiser.base_channels)
        self.segmenter = Segmenter(config.segmenter)

    def losses(self, example: Example, settings: TrainConfig) -> Losses:
        low, high = self.config.value_range
        restored = self.autoencoder(example.image)
        logits = self.segmenter(torch.cat([example.image, restored], dim=1)).float()
        restored = restored.float()
        similarity = structural_similarity(restored, example.original, high - low)
        restoration = (restored - example.original).square().mean() + (1 - similarity)
        return Losses(restoration, mask_loss(logits, example.mask, settings.focal_weight))

    def denoise(self, x_t: Tensor) -> Tensor:
        restored: Tensor = self.autoencoder(x_t)
        return restored

    def score(self, pair: Tensor) -> Tensor:
        return torch.sigmoid(self.segmenter(pair))


AnyDetector = Detector | DirectDetector

METHODS: dict[str, type[AnyDetector]] = {
    "DiffusionAD": Detector,
    "DenoisingAD": DenoisingAD,
    "DRAEM+": DraemPlus,
    "SegmentationAD": SegmentationAD,
}
"""Class of each `Method`."""


def build_detector(config: ModelConfig) -> AnyDetector:
    """The networks of a configuration, with fresh weights."""
    return METHODS[config.method](config)


def compares_features(detector: AnyDetector) -> FeatureSegmenter | None:
    """The segmenter of a detector that compares features, if it has one."""
    segmenter = getattr(detector, "segmenter", None)
    return segmenter if isinstance(segmenter, FeatureSegmenter) else None
