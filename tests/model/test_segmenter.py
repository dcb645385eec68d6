from __future__ import annotations

import pytest
import torch
from tiny import TINY
from torch.utils.flop_counter import FlopCounterMode

from dad_edge.config import RECIPES, SegmenterConfig
from dad_edge.model.segmenter import Segmenter


def test_rows_do_not_mix_at_inference() -> None:
    torch.manual_seed(0)
    network = Segmenter(TINY.segmenter).eval()
    pair = torch.randn(3, 6, 64, 32)
    logits = network(pair)
    assert logits.shape == (3, 1, 64, 32)
    alone = torch.cat([network(row[None]) for row in pair])
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)


def test_both_images_matter() -> None:
    torch.manual_seed(0)
    network = Segmenter(TINY.segmenter).eval()
    pair = torch.randn(1, 6, 32, 32)
    for half in (slice(0, 3), slice(3, 6)):
        other = pair.clone()
        other[:, half] = 0
        assert (network(other) - network(pair)).abs().max() > 1e-4


def test_the_papers_size() -> None:
    with torch.device("meta"):
        network = Segmenter(RECIPES["paper"].model.segmenter).eval()
        pair = torch.empty(1, 6, 256, 256)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(28.4, abs=0.05)
    with FlopCounterMode(display=False) as counter:
        network(pair)
    assert counter.get_total_flops() / 1e9 == pytest.approx(76.0, rel=1e-3)


def test_patches_give_a_mask_of_the_images_size() -> None:
    torch.manual_seed(0)
    network = Segmenter(SegmenterConfig(base_width=4, patch=2)).eval()
    pair = torch.randn(2, 6, 64, 64)
    logits = network(pair)
    assert logits.shape == (2, 1, 64, 64)
    assert network.encoder[0](pair).shape == (2, 4, 32, 32)
    # Every pixel of a patch has a score of its own.
    assert (logits[..., ::2, ::2] != logits[..., 1::2, ::2]).float().mean() > 0.9
