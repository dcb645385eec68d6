"""What good parts look like to the encoder: a memory of features, and how far from it is too far.

Source: Roth et al., "Towards Total Recall in Industrial Anomaly Detection" (PatchCore), 2022. The
memory is a fraction of theirs, and its distance is not the verdict: it is evidence beside what the
segmenter has learned from synthetic anomalies, which knows small things and edges better.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dad_edge.model.encoder import CHANNELS

SIZE = 1024
"""Features that are remembered."""
WIDTH = CHANNELS[1] + CHANNELS[2]
WEIGHT = 8.0
"""Logits for a place that is farther off by as much as a typical good place is off."""
_STRIDE = 8
_SMALLEST = 1e-6
_FLOOR = 0.1
"""Of a usual spread or distance: what a channel that never varies, or parts that are all the same,
count as at least, so that rounding is no evidence."""
_PROJECTED = 64
"""Random directions along which the distance of two features is estimated (Johnson and
Lindenstrauss) while those to remember are picked."""


class Memory(nn.Module):
    """How much farther every place of an image is from the remembered features than any good one.

    An empty memory has nothing to say: 0 everywhere.
    """

    mean: Tensor
    scale: Tensor
    remembered: Tensor
    weight: Tensor
    farthest: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(WIDTH))
        self.register_buffer("scale", torch.ones(WIDTH))
        self.register_buffer("remembered", torch.zeros(SIZE, WIDTH))
        self.register_buffer("weight", torch.zeros(()))
        self.register_buffer("farthest", torch.zeros(()))

    def forward(self, levels: list[Tensor]) -> Tensor:
        """Features at strides 4, 8 and 16 → (B,1,H,W) logits of the mask."""
        f_BCHW = self.standardised(levels)
        half_norm_M1 = self.remembered.square().sum(dim=1, keepdim=True) / 2
        # A product of matrices and not a convolution: INT8 has too few levels for it.
        nearest = (self.remembered @ f_BCHW.flatten(2) - half_norm_M1).amax(dim=1)
        squared = f_BCHW.square().sum(dim=1) - 2 * nearest.unflatten(1, f_BCHW.shape[2:])
        apart = squared.clip(min=_SMALLEST).sqrt()[:, None]
        evidence = self.weight * (apart - self.farthest)
        return F.interpolate(evidence, scale_factor=_STRIDE, mode="bilinear", align_corners=False)

    def standardised(self, levels: list[Tensor]) -> Tensor:
        """Features at strides 4, 8 and 16 → (B,WIDTH,H/8,W/8), each place seen with its eight
        neighbours."""
        fine, coarse = (F.avg_pool2d(level, 3, 1, 1) for level in levels[1:])
        coarse = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
        both = torch.cat([fine, coarse], dim=1)
        return (both - self.mean[:, None, None]) / self.scale[:, None, None]

    @torch.no_grad()
    def fill(self, features_NC: Tensor, generator: torch.Generator) -> None:
        """Remember features of good parts, spread over all that there are.

        Args:
            features_NC: (N,WIDTH), as `standardised` gives them from an empty memory.
            generator: decides what the choice looks at.
        """
        deviation_C = features_NC.std(dim=0, correction=0)
        self.mean.copy_(features_NC.mean(dim=0))
        self.scale.copy_(deviation_C.maximum(_FLOOR * deviation_C.mean()).clip(min=_SMALLEST))
        standard = (features_NC - self.mean) / self.scale
        directions = torch.randn(WIDTH, _PROJECTED, generator=generator) / _PROJECTED**0.5
        chosen = spread(standard @ directions.to(standard.device), SIZE)
        self.remembered.copy_(standard[chosen])
        apart = torch.cdist(standard, self.remembered).amin(dim=1)
        self.weight.copy_(WEIGHT / apart.mean().clip(min=_FLOOR * WIDTH**0.5))
        self.farthest.copy_(apart.max())


def spread(points_ND: Tensor, count: int) -> Tensor:
    """Positions of points that cover the others: each is the farthest from those before it.

    Greedy k-center, as in PatchCore; where there are fewer points than asked for, some come again.
    """
    farthest = torch.zeros((), dtype=torch.long)
    nearest_N = torch.full((len(points_ND),), torch.inf, device=points_ND.device)
    chosen = []
    for _ in range(count):
        chosen.append(farthest)
        squared = (points_ND - points_ND[farthest]).square().sum(dim=1)
        nearest_N = torch.minimum(nearest_N, squared)
        farthest = nearest_N.argmax().cpu()
    return torch.stack(chosen)
