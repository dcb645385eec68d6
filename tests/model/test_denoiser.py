from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from tiny import TINY
from torch.utils.flop_counter import FlopCounterMode

from dad_edge.config import RECIPES, SizeName
from dad_edge.model.denoiser import Denoiser, ResidualBlock, SelfAttention
from dad_edge.model.detector import Detector
from dad_edge.model.diffusion import corrupt, one_step_estimate

ON_PAPER = RECIPES["paper"].model


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """With every weight drawn, so that no zero-initialised layer hides anything."""
    torch.manual_seed(0)
    network = Denoiser(TINY.denoiser, TINY.image_size).eval()
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(0.1 * torch.randn_like(weights))
    return network


def test_an_untrained_denoiser_predicts_no_noise() -> None:
    network = Denoiser(TINY.denoiser, TINY.image_size)
    noise = network(torch.randn(2, 3, 32, 32), torch.tensor([3, 900]))
    assert noise.shape == (2, 3, 32, 32)
    assert not noise.any()


def test_rows_do_not_mix(denoiser: Denoiser) -> None:
    x, t = torch.randn(3, 3, 32, 32), torch.tensor([5, 100, 200])
    together = denoiser(x, t)
    alone = torch.cat([denoiser(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_the_time_step_matters(denoiser: Denoiser) -> None:
    x = torch.randn(1, 3, 32, 32)
    apart = denoiser(x, torch.tensor([100])) - denoiser(x, torch.tensor([200]))
    assert apart.abs().max() > 1e-3


def test_shifts_are_all_that_the_time_step_does(denoiser: Denoiser) -> None:
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([100, 200])
    torch.testing.assert_close(denoiser.predict(x, denoiser.shifts(t)), denoiser(x, t))


def test_attention_is_softmax_over_positions() -> None:
    torch.manual_seed(1)
    layer = SelfAttention(channels=8, heads=2, groups=4)
    torch.nn.init.normal_(layer.project.weight)
    x = torch.randn(1, 8, 3, 4)
    tokens = layer.norm(x.reshape(1, 8, 12))
    parts = layer.qkv(tokens)[0].reshape(2, 3, 4, 12)
    mixed = []
    for query, key, value in parts:
        weights = torch.softmax(query.T @ key / 4**0.5, dim=1)
        mixed.append(value @ weights.T)
    expected = x + layer.project(torch.cat(mixed)[None]).reshape(x.shape)
    torch.testing.assert_close(layer(x), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("scale", "side"), [("same", 8), ("down", 4), ("up", 16)])
def test_a_residual_block_starts_as_its_skip(scale: str, side: int) -> None:
    block = ResidualBlock(4, 4, 16, 2, scale)
    x = torch.ones(1, 4, 8, 8)
    torch.testing.assert_close(block(x, torch.zeros(1, 4, 1, 1)), torch.ones(1, 4, side, side))


def test_the_papers_size() -> None:
    with torch.device("meta"):
        network = Denoiser(ON_PAPER.denoiser, ON_PAPER.image_size)
        image, t = torch.empty(1, 3, 256, 256), torch.zeros(1)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(131.7, abs=0.05)
    attending = [m for m in network.modules() if isinstance(m, SelfAttention)]
    assert len(attending) == 3 * 2 + 3 * 3 + 1
    with FlopCounterMode(display=False) as counter:
        network(image, t)
    assert counter.get_total_flops() / 1e9 == pytest.approx(563.2, rel=1e-3)


PATCHED = replace(TINY.denoiser, patch=4, predicts="image", attention_resolutions=(4,))


def test_a_network_that_predicts_the_image_gives_the_noise_that_makes_it() -> None:
    torch.manual_seed(2)
    network = Denoiser(PATCHED, 32).eval()
    torch.nn.init.normal_(network.head.weight)
    x, t = torch.randn(2, 3, 32, 32), torch.tensor([100, 200])
    noise = network(x, t)
    alpha = network.alpha_bar[t][:, None, None, None]
    image = one_step_estimate(x, noise, alpha)
    torch.testing.assert_close(corrupt(image, noise, alpha), x, rtol=0, atol=1e-5)
    network.head.weight.data.zero_()
    empty = one_step_estimate(x, network(x, t), alpha)
    torch.testing.assert_close(empty, torch.zeros_like(x), rtol=0, atol=1e-5)


def test_patches_keep_their_place_and_the_image_its_size() -> None:
    torch.manual_seed(2)
    network = Denoiser(replace(PATCHED, predicts="noise"), 32).eval()
    torch.nn.init.normal_(network.head.weight)
    assert network.stem(torch.randn(1, 3, 32, 32)).shape == (1, 8, 8, 8)
    assert network(torch.randn(1, 3, 32, 32), torch.tensor([5])).shape == (1, 3, 32, 32)
    attending = [name for name, m in network.named_modules() if isinstance(m, SelfAttention)]
    places = ("down.2", "middle.0", "up.0", "up.1")
    assert attending == [f"{place}.attention" for place in places]


@pytest.mark.parametrize(("size", "limit_gflop"), [("nano", 6.7), ("edge", 12.6)])
def test_the_arithmetic_of_a_small_size(size: SizeName, limit_gflop: float) -> None:
    model = RECIPES[size].model
    with torch.device("meta"):
        detector = Detector(model).eval()
        x, pair = torch.empty(2, 3, 256, 256), torch.empty(2, 6, 256, 256)
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        detector.denoise(x)
        detector.score(pair)
    assert model.image_size == 256
    assert counter.get_total_flops() / 1e9 < limit_gflop


@pytest.mark.parametrize("size", ["nano", "edge"])
def test_channels_fit_vector_units_and_attention_heads_are_wide(size: SizeName) -> None:
    with torch.device("meta"):
        detector = Detector(RECIPES[size].model)
    outputs = [m.out_channels for m in detector.modules() if isinstance(m, torch.nn.Conv2d)]
    assert not [width for width in outputs if width % 8 and width != 4]  # 4: a patch of the mask
    for layer in detector.modules():
        if isinstance(layer, SelfAttention):
            assert layer.project.out_channels // layer.heads >= 16
