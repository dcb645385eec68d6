from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_weights import drawn_weights, install_drawn_weights
from numpy.typing import NDArray
from tiny import TINY, save_discs
from torch import Tensor

from dad_edge.config import Recipe, SegmenterConfig, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.learn.parallel import Processes
from dad_edge.learn.train import train
from dad_edge.learn.trainer import Trainer
from dad_edge.model import memory
from dad_edge.model.ablations import compares_features
from dad_edge.model.checkpoint import load_detector
from dad_edge.model.encoder import CHANNELS, Encoder, folded
from dad_edge.model.memory import SIZE, WEIGHT, WIDTH, Memory, spread
from dad_edge.model.segmenter import FeatureSegmenter

WITH_FEATURES = replace(TINY, segmenter=SegmenterConfig(base_width=4, encoder="efficientnet-lite0"))


def levels_of(seed: int, rows: int = 1, side: int = 64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [
        torch.randn(rows, channels, side // stride, side // stride, generator=generator)
        for channels, stride in zip(CHANNELS, (4, 8, 16), strict=True)
    ]


def places_of(empty: Memory, levels: list[Tensor]) -> Tensor:
    return empty.standardised(levels).permute(0, 2, 3, 1).reshape(-1, WIDTH)


def filled(places: Tensor) -> Memory:
    full = Memory()
    full.fill(places, torch.Generator().manual_seed(0))
    return full


def test_an_empty_memory_says_nothing() -> None:
    evidence = Memory()(levels_of(0, rows=2))
    assert evidence.shape == (2, 1, 64, 64)
    assert torch.equal(evidence, torch.zeros_like(evidence))


def test_evidence_is_the_distance_beyond_the_farthest_good_place() -> None:
    # Four images of 64 places are fewer than are remembered: all of them are.
    good = levels_of(0, rows=40)
    full = filled(places_of(Memory(), good))
    other = levels_of(1)
    standard = places_of(full, other)
    apart = torch.cdist(standard.double(), full.remembered.double()).amin(dim=1)
    expected = full.weight * (apart.float() - full.farthest)
    # The bilinear upscaling meets its corner values at the four corners.
    seen = full(other)[0, 0]
    corners = expected.reshape(8, 8)[[0, 0, -1, -1], [0, -1, 0, -1]]
    torch.testing.assert_close(seen[[0, 0, -1, -1], [0, -1, 0, -1]], corners, rtol=1e-3, atol=1e-3)


def test_no_good_place_is_beyond_and_a_foreign_one_is() -> None:
    good = levels_of(0, rows=40)
    full = filled(places_of(Memory(), good))
    assert full(good).max() <= 1e-3
    foreign = [level * 4 for level in levels_of(2)]
    assert full(foreign).min() > WEIGHT / 4


def test_the_typical_distance_weighs_the_same_whatever_the_scale_of_the_features() -> None:
    good = levels_of(0, rows=40)
    plain, scaled = (filled(places_of(Memory(), [level * by for level in good])) for by in (1, 7))
    other = levels_of(1)
    torch.testing.assert_close(
        plain(other), scaled([level * 7 for level in other]), rtol=1e-3, atol=1e-2
    )


def test_the_remembered_cover_the_rest() -> None:
    line = torch.tensor([[0.0], [9.0], [10.0], [5.0], [1.0]])
    assert spread(line, 3).tolist() == [0, 2, 3]


def test_fewer_places_than_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    places = places_of(Memory(), levels_of(0, side=16))
    assert len(places) < SIZE
    full = filled(places)
    assert full.farthest <= 1e-2
    assert full(levels_of(0, side=16)).isfinite().all()


def test_parts_that_are_all_alike_give_finite_evidence() -> None:
    full = filled(torch.ones(2000, WIDTH))
    assert (
        full(
            [torch.ones(1, c, 64 // s, 64 // s) for c, s in zip(CHANNELS, (4, 8, 16), strict=True)]
        )
        .isfinite()
        .all()
    )


def test_the_memory_has_its_say_in_evaluation_alone() -> None:
    torch.manual_seed(0)
    network = FeatureSegmenter(WITH_FEATURES.segmenter)
    network.features.load_state_dict(folded(drawn_weights()))
    pair = torch.rand(2, 6, 64, 64)
    network.memory.fill(
        places_of(network.memory, network.features(torch.rand(16, 3, 64, 64))), torch.Generator()
    )
    network.eval()
    both = network(pair)
    evidence = network.memory(network.features(pair[:, :3]))
    assert evidence.abs().max() > 0.1
    network.memory.weight.zero_()
    torch.testing.assert_close(2 * (both - network(pair)), evidence, rtol=1e-4, atol=1e-4)
    network.memory.weight.fill_(1e6)
    assert network.train()(pair).abs().max() < 1e3


def test_training_remembers_the_parts_that_teach_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_drawn_weights(tmp_path, monkeypatch)
    data = save_discs(tmp_path / "data", 48)
    recipe = Recipe(model=WITH_FEATURES, train=TrainConfig(batch_size=8, epochs=1))
    images = TrainingSet(data, recipe.model, recipe.train)
    assert images.parts.kept_out
    assert len(images.good_views(100)) == len(images) < 48
    train(recipe, images, tmp_path / "run", device="cpu")
    detector, _ = load_detector(tmp_path / "run")
    segmenter = compares_features(detector)
    assert segmenter is not None
    kept_out = images.kept_out(100)
    assert kept_out is not None
    evidence = [
        float(segmenter.memory(segmenter.features(rgb_of(views))).max())
        for views in (images.good_views(100), kept_out.frames[: len(kept_out.frames) // 2])
    ]
    assert evidence[0] <= 1e-2 < 0.1 < evidence[1]


def rgb_of(views: NDArray[np.uint8]) -> Tensor:
    rgb = np.ascontiguousarray(views[..., ::-1].transpose(0, 3, 1, 2))
    return torch.from_numpy(rgb).float() / 255


def test_a_view_is_remembered_the_same_in_every_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_drawn_weights(tmp_path, monkeypatch)
    recipe = Recipe(model=WITH_FEATURES, train=TrainConfig(batch_size=2))
    images = TrainingSet(save_discs(tmp_path / "data", 12), recipe.model, recipe.train)
    monkeypatch.setattr(memory, "SIZE", 64)
    states = []
    for _ in range(2):
        trainer = Trainer(recipe, Processes(torch.device("cpu")))
        trainer.remember(images)
        states.append(trainer.average.state_dict())
    assert states[0]["segmenter.memory.remembered"].abs().max() > 0
    for name in states[0]:
        if ".memory." in name:
            assert torch.equal(states[0][name], states[1][name])


def test_stride_of_the_memory_is_that_of_the_encoders_second_level() -> None:
    levels = Encoder()(torch.zeros(1, 3, 64, 96))
    assert Memory()(levels).shape == (1, 1, 64, 96)
