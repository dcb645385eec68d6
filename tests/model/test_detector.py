from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY
from torch import Tensor

from dad_edge.config import TrainConfig
from dad_edge.model.detector import Detector, Example


def drawn_detector(**changes: object) -> Detector:
    """With every weight drawn, so that no zero-initialised layer hides anything."""
    torch.manual_seed(0)
    detector = Detector(replace(TINY, **changes)).eval().requires_grad_(False)  # type: ignore[arg-type]
    for weights in detector.parameters():
        weights.add_(0.1 * torch.randn_like(weights))
    return detector


@pytest.fixture(scope="module")
def image() -> Tensor:
    return torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))


def predict(detector: Detector, x: Tensor, step: int) -> Tensor:
    prediction: Tensor = detector.denoiser(x, torch.tensor([step] * len(x)))
    return prediction


def segment(detector: Detector, image: Tensor, restored: Tensor) -> Tensor:
    return torch.sigmoid(detector.segmenter(torch.cat([image, restored], dim=1)))


def test_average_is_algorithm_2(image: Tensor, noise: Tensor) -> None:
    detector = drawn_detector()
    masks, estimates = [], []
    for step, eps in zip((100, 200), noise, strict=True):
        a = float(detector.alpha_bar[step])
        x = a**0.5 * image + (1 - a) ** 0.5 * eps
        estimate = (x - (1 - a) ** 0.5 * predict(detector, x, step)) / a**0.5
        estimates.append(estimate.clamp(-1, 1))
        masks.append(segment(detector, image, estimates[-1]))
    mask, restored = detector(image, noise)
    torch.testing.assert_close(mask, (masks[0] + masks[1]) / 2, rtol=0, atol=1e-5)
    torch.testing.assert_close(restored, torch.stack(estimates), rtol=0, atol=1e-5)
    assert (masks[0] - masks[1]).abs().max() > 1e-4


def test_norm_guided_is_the_journal_version(image: Tensor, noise: Tensor) -> None:
    detector = drawn_detector(fusion="norm_guided", lambdas=(200, 400))
    n, m = (float(detector.alpha_bar[step]) for step in (200, 400))
    x_n = n**0.5 * image + (1 - n) ** 0.5 * noise[0]
    x_m = m**0.5 * image + (1 - m) ** 0.5 * noise[1]
    eps_n, eps_m = predict(detector, x_n, 200), predict(detector, x_m, 400)
    x0_m = ((x_m - (1 - m) ** 0.5 * eps_m) / m**0.5).clamp(-1, 1)
    guide = n**0.5 * x0_m + (1 - n) ** 0.5 * eps_n
    eps = eps_n - (1 - n) ** 0.5 * (guide - x_n)
    expected = ((x_n - (1 - n) ** 0.5 * eps) / n**0.5).clamp(-1, 1)
    mask, restored = detector(image, noise)
    assert restored.shape == (1, 2, 3, 32, 32)
    torch.testing.assert_close(restored[0], expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(mask, segment(detector, image, expected), rtol=0, atol=1e-5)


def test_gradients_reach_both_networks_through_the_estimate(image: Tensor, noise: Tensor) -> None:
    detector = drawn_detector().requires_grad_(True).train()
    _, restored = detector.estimate(image + 0.1 * noise[0], torch.tensor([3, 400]))
    detector.segment(image, restored).square().mean().backward()
    for network in (detector.denoiser, detector.segmenter):
        assert all(p.grad is not None for p in network.parameters())
        assert any(bool(p.grad.abs().sum() > 0) for p in network.parameters() if p.grad is not None)


def test_the_schedule_is_not_part_of_the_weights() -> None:
    assert not any("alpha_bar" in name for name in Detector(TINY).state_dict())


def test_hardly_noisy_images_do_not_rule_the_noise_loss() -> None:
    detector = Detector(TINY)  # untrained, so that it predicts no noise
    noise = torch.randn(1, 2, 3, 32, 32)
    image, mask = torch.rand(2, 3, 32, 32), torch.zeros(2, 1, 32, 32)
    example = Example(image, image, mask, noise, torch.tensor([[0, 300]]))
    squares = noise[0].square().mean(dim=(1, 2, 3))
    plain = detector.losses(example, TrainConfig()).restoration
    torch.testing.assert_close(plain, squares.mean())
    limited = detector.losses(example, TrainConfig(snr_limit=5.0)).restoration
    alpha = detector.alpha_bar[0]
    weight = torch.stack([5 * (1 - alpha) / alpha, torch.tensor(1.0)])
    torch.testing.assert_close(limited, (squares * weight).mean())
