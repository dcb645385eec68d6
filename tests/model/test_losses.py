from __future__ import annotations

import math

import pytest
import torch

from dad_edge.model.losses import focal_loss, mask_loss, noise_loss

LOGITS = torch.tensor([[-3.0, 0.5], [2.0, 0.0]]).reshape(1, 1, 2, 2)
MASK = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).reshape(1, 1, 2, 2)


def naive_focal() -> float:
    terms = []
    for logit, target in zip(LOGITS.ravel().tolist(), MASK.ravel().tolist(), strict=True):
        p = 1 / (1 + math.exp(-logit))
        right = p if target else 1 - p
        terms.append(-((1 - right) ** 2) * math.log(right))
    return sum(terms) / len(terms)


def test_focal_loss() -> None:
    assert float(focal_loss(LOGITS, MASK)) == pytest.approx(naive_focal(), rel=1e-5)


def test_focal_loss_stays_finite_where_it_is_very_wrong() -> None:
    logits = torch.tensor([500.0, -500.0], requires_grad=True)
    loss = focal_loss(logits.reshape(1, 1, 1, 2), torch.tensor([0.0, 1.0]).reshape(1, 1, 1, 2))
    loss.backward()
    assert float(loss.detach()) == pytest.approx(500)
    assert logits.grad is not None
    assert bool(logits.grad.isfinite().all())


def test_mask_loss_is_smooth_l1_plus_weighted_focal() -> None:
    smooth = 0.0
    for logit, target in zip(LOGITS.ravel().tolist(), MASK.ravel().tolist(), strict=True):
        apart = abs(1 / (1 + math.exp(-logit)) - target)
        smooth += 0.5 * apart**2 / 4
    assert float(mask_loss(LOGITS, MASK, 5.0)) == pytest.approx(
        smooth + 5 * naive_focal(), rel=1e-5
    )
    assert float(mask_loss(LOGITS, MASK, 0.0)) == pytest.approx(smooth, rel=1e-5)


def test_noise_loss_counts_the_images_asked_for() -> None:
    torch.manual_seed(0)
    predicted, noise = torch.randn(4, 3, 2, 2), torch.randn(4, 3, 2, 2)
    mask = torch.zeros(4, 1, 2, 2)
    mask[2:, :, 0, 0] = 1
    squares = (predicted - noise) ** 2
    torch.testing.assert_close(noise_loss(predicted, noise, mask, "all"), squares.mean())
    torch.testing.assert_close(noise_loss(predicted, noise, mask, "normal"), squares[:2].mean())


def test_noise_loss_without_a_normal_image_is_zero() -> None:
    ones = torch.ones(2, 1, 2, 2)
    assert float(noise_loss(torch.ones(2, 3, 2, 2), torch.zeros(2, 3, 2, 2), ones, "normal")) == 0


def test_the_weight_of_an_image_limits_what_it_counts() -> None:
    predicted, noise = torch.full((2, 3, 2, 2), 2.0), torch.zeros(2, 3, 2, 2)
    mask = torch.zeros(2, 1, 2, 2)
    weighted = noise_loss(predicted, noise, mask, "all", torch.tensor([1.0, 0.25]))
    assert float(weighted) == 4 * (1 + 0.25) / 2
