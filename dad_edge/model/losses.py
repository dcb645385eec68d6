"""Training loss of both sub-networks (Eq. 6-8)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FOCUSING = 2.0
"""Exponent of the focal loss."""


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary focal loss, mean over all pixels.

    Args:
        logits: (B,1,S,S).
        mask: (B,1,S,S) in {0, 1}.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** FOCUSING * cross_entropy).mean()


def noise_loss(
    predicted: Tensor, noise: Tensor, mask: Tensor, images: Literal["all", "normal"]
) -> Tensor:
    """‖ε - ε_θ‖², mean over the images that count.

    Args:
        predicted: (B,3,S,S).
        noise: (B,3,S,S).
        mask: (B,1,S,S); an image is normal where it is all zero.
        images: `all` as in the paper, or `normal` as in the authors' code.
    """
    error_B = (predicted - noise).square().mean(dim=(1, 2, 3))
    if images == "all":
        return error_B.mean()
    normal_B = (mask.amax(dim=(1, 2, 3)) == 0).to(error_B.dtype)
    return (error_B * normal_B).sum() / normal_B.sum().clip(min=1)


def mask_loss(logits: Tensor, mask: Tensor, focal_weight: float) -> Tensor:
    """SmoothL1(M, M̂) + γ · Focal(M, M̂)."""
    smooth = F.smooth_l1_loss(torch.sigmoid(logits), mask)
    return smooth + focal_weight * focal_loss(logits, mask)
