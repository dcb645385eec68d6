"""Segmentation sub-network: a U-Net over the image and its flawless estimate side by side."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dad_edge.config import SegmenterConfig
from dad_edge.model.denoiser import patch_conv
from dad_edge.model.encoder import CHANNELS, Encoder
from dad_edge.model.memory import Memory

ENCODER_MULTS = (1, 2, 4, 8, 8, 8)
DECODER_MULTS = (8, 4, 2, 1, 1)
RARE = 0.01
"""Share of defective pixels that the mask starts from."""


def _conv(inputs: int, outputs: int) -> nn.Sequential:
    """3×3 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )


def conv_pair(inputs: int, outputs: int) -> nn.Sequential:
    """Two 3×3 convolutions, each with BatchNorm and ReLU."""
    return nn.Sequential(_conv(inputs, outputs), _conv(outputs, outputs))


class Segmenter(nn.Module):
    """(B,6,S,S) image ⊕ x̂0 → (B,1,S,S) logits of the anomaly mask."""

    def __init__(self, config: SegmenterConfig, inputs: int = 6) -> None:
        """
        Args:
            config: width.
            inputs: channels that come in; 3 where the image stands alone (SegmentationAD).
        """
        super().__init__()
        self.patch = config.patch
        widths = [config.base_width * mult for mult in ENCODER_MULTS]
        self.encoder = nn.ModuleList(
            conv_pair(before, outputs)
            for before, outputs in zip([inputs, *widths[:-1]], widths, strict=True)
        )
        self.encoder[0][0][0] = patch_conv(config.patch, inputs, widths[0])  # type: ignore[index]
        self.grow = nn.ModuleList()
        self.decoder = nn.ModuleList()
        below = widths[-1]
        for mult, skip in zip(DECODER_MULTS, reversed(widths[:-1]), strict=True):
            width = config.base_width * mult
            self.grow.append(_conv(below, width))
            self.decoder.append(conv_pair(width + skip, width))
            below = width
        self.head = nn.Conv2d(below, config.patch**2, 3, padding=1)
        if config.patch > 1:  # the paper's layout starts as the authors' code does
            start_rare(self.head)

    def forward(self, pair_BCHW: Tensor) -> Tensor:
        h, skips = pair_BCHW, []
        for index, encode in enumerate(self.encoder):
            h = encode(h if index == 0 else F.max_pool2d(h, 2))
            skips.append(h)
        skips.pop()
        for grow, decode in zip(self.grow, self.decoder, strict=True):
            wide = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True)
            h = decode(torch.cat([grow(wide), skips.pop()], dim=1))
        logits: Tensor = self.head(h)
        return F.pixel_shuffle(logits, self.patch) if self.patch > 1 else logits


class FeatureSegmenter(nn.Module):
    """(B,6,S,S) image ⊕ x̂0 → (B,1,S,S) logits, from what frozen features say of both.

    At every stride of the encoder the image's features stand beside how far those of x̂0 are from
    them; the pixels themselves join at half the resolution. In evaluation the mean is taken with
    what the memory of good parts says: training does not see it, for it would learn from synthetic
    anomalies to trust it where those are alone.
    """

    def __init__(self, config: SegmenterConfig) -> None:
        super().__init__()
        width = config.base_width
        self.features = Encoder()
        self.memory = Memory()
        self.compare = nn.ModuleList(_pointwise(2 * channels, 2 * width) for channels in CHANNELS)
        self.pixels = nn.Sequential(
            patch_conv(2, 6, width), nn.BatchNorm2d(width), nn.ReLU(inplace=True)
        )
        self.decoder = nn.ModuleList(
            [
                conv_pair(4 * width, 2 * width),
                conv_pair(4 * width, 2 * width),
                conv_pair(3 * width, width),
            ]
        )
        self.head = nn.Conv2d(width, 4, 3, padding=1)
        start_rare(self.head)

    def forward(self, pair_BCHW: Tensor) -> Tensor:
        # No gradient goes through the encoder: the denoiser learns from its own loss.
        with torch.no_grad():
            image, restored = self.features(pair_BCHW[:, :3]), self.features(pair_BCHW[:, 3:])
        levels = [
            compare(torch.cat([seen, (seen - flawless).abs()], dim=1))
            for compare, seen, flawless in zip(self.compare, image, restored, strict=True)
        ]
        h = levels.pop()
        for decode in self.decoder:
            wide = F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=False)
            finer = levels.pop() if levels else self.pixels(pair_BCHW)
            h = decode(torch.cat([wide, finer], dim=1))
        learned = F.pixel_shuffle(self.head(h), 2)
        return learned if self.training else (learned + self.memory(image)) / 2


def start_rare(head: nn.Conv2d) -> None:
    """Start a mask's last convolution from few defective pixels (Lin et al., "Focal Loss", 2017).

    From a bias of zero, training makes the background the place where features stand out, and a
    defect the place where they are zero: no logit can then rise above the bias.
    """
    assert head.bias is not None
    nn.init.constant_(head.bias, -math.log((1 - RARE) / RARE))


def _pointwise(inputs: int, outputs: int) -> nn.Sequential:
    """1×1 convolution, BatchNorm, ReLU."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 1), nn.BatchNorm2d(outputs), nn.ReLU(inplace=True)
    )
