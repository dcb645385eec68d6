"""Training losses: both sub-networks (Eq. 6-8), and the reconstruction of DRAEM+."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

FOCUSING = 2.0
"""Exponent of the focal loss."""
SSIM_WINDOW, SSIM_SIGMA = 11, 1.5
"""Side and standard deviation of the structural similarity's window, in pixels."""


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Binary focal loss, mean over all pixels.

    Args:
        logits: (B,1,S,S).
        mask: (B,1,S,S) in {0, 1}.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return ((1 - torch.exp(-cross_entropy)) ** FOCUSING * cross_entropy).mean()


def noise_loss(
    predicted: Tensor,
    noise: Tensor,
    mask: Tensor,
    images: Literal["all", "normal"],
    weight: Tensor | None = None,
) -> Tensor:
    """‖ε - ε_θ‖², mean over the images that count.

    Args:
        predicted: (B,3,S,S).
        noise: (B,3,S,S).
        mask: (B,1,S,S); an image is normal where it is all zero.
        images: `all` as in the paper, or `normal` as in the authors' code.
        weight: (B,) of each image; 1 if None.
    """
    error_B = (predicted - noise).square().mean(dim=(1, 2, 3))
    if weight is not None:
        error_B = error_B * weight
    if images == "all":
        return error_B.mean()
    normal_B = (mask.amax(dim=(1, 2, 3)) == 0).to(error_B.dtype)
    return (error_B * normal_B).sum() / normal_B.sum().clip(min=1)


def mask_loss(logits: Tensor, mask: Tensor, focal_weight: float) -> Tensor:
    """SmoothL1(M, M̂) + γ · Focal(M, M̂)."""
    smooth = F.smooth_l1_loss(torch.sigmoid(logits), mask)
    return smooth + focal_weight * focal_loss(logits, mask)


def structural_similarity(one: Tensor, other: Tensor, span: float) -> Tensor:
    """Mean structural similarity (Wang et al. 2004), over windows that lie inside the images.

    Args:
        one: (B,C,S,S).
        other: (B,C,S,S).
        span: largest value minus smallest.
    """
    channels = one.shape[1]
    offsets = torch.arange(SSIM_WINDOW, device=one.device, dtype=one.dtype) - SSIM_WINDOW // 2
    bell = torch.exp(-offsets.square() / (2 * SSIM_SIGMA**2))
    bell = bell / bell.sum()
    window = torch.outer(bell, bell).expand(channels, 1, -1, -1)

    def local_mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window, groups=channels)

    mean_1, mean_2 = local_mean(one), local_mean(other)
    variance_1 = local_mean(one * one) - mean_1.square()
    variance_2 = local_mean(other * other) - mean_2.square()
    covariance = local_mean(one * other) - mean_1 * mean_2
    c1, c2 = (0.01 * span) ** 2, (0.03 * span) ** 2
    similarity = (2 * mean_1 * mean_2 + c1) * (2 * covariance + c2)
    return (
        similarity / ((mean_1.square() + mean_2.square() + c1) * (variance_1 + variance_2 + c2))
    ).mean()
