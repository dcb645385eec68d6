"""The rows of Table 3 train, inspect and refuse to be deployed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, save_discs
from torch.nn import functional as F  # noqa: N812

from dad_edge.config import RECIPES, Method, Recipe, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.deploy.export import export
from dad_edge.errors import ModelError, UsageError
from dad_edge.learn.parallel import Processes
from dad_edge.learn.recipes import choose_recipe, norm_guided
from dad_edge.learn.train import train
from dad_edge.learn.trainer import Trainer
from dad_edge.model.ablations import METHODS, DenoisingAD, build_detector
from dad_edge.model.autoencoder import Autoencoder
from dad_edge.model.losses import structural_similarity
from dad_edge.runtime.cpu.engine_torch import torch_inspector

SETTINGS = TrainConfig(batch_size=4, learning_rate=2e-3, epochs=1)
VARIANTS = {name: replace(TINY, method=name) for name in get_args(Method)} | {
    "norm-guided": replace(TINY, fusion="norm_guided", lambdas=(200, 400)),
    "one λ": replace(TINY, lambdas=(100,)),
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_discs(tmp_path_factory.mktemp("data"), 5)


def test_every_method_has_a_class() -> None:
    assert set(METHODS) == set(get_args(Method))


@pytest.mark.parametrize("name", VARIANTS)
def test_every_row_learns(name: str, data: Path) -> None:
    images = TrainingSet(data, TINY, SETTINGS)
    trainer = Trainer(Recipe(model=VARIANTS[name], train=SETTINGS), Processes(torch.device("cpu")))
    before = {k: v.clone() for k, v in trainer.detector.named_parameters()}
    losses = [trainer.learn(images.batch(step % 2), 0.0)["loss"] for step in range(30)]
    assert sum(losses[-8:]) < 0.9 * sum(losses[:8])
    still = [k for k, v in trainer.detector.named_parameters() if torch.equal(v, before[k])]
    assert still == [], "every weight takes part"


@pytest.mark.parametrize("name", VARIANTS)
def test_the_inspector_gives_the_mask_of_the_detector(name: str, dark_frame: np.ndarray) -> None:
    torch.manual_seed(0)
    detector = build_detector(VARIANTS[name]).eval()
    result = torch_inspector(detector).inspect(dark_frame)
    pair = torch.from_numpy(np.concatenate([result.image, result.restored]))[None]
    with torch.inference_mode():
        mask = detector.score(pair)[0, 0].numpy()
        if name in ("SegmentationAD", "DRAEM+"):
            masks, restored = detector(pair[:, :3], torch.empty(0))
            np.testing.assert_allclose(result.score_map, masks[0, 0], atol=1e-5)
            np.testing.assert_allclose(result.restored, restored[0, 0], atol=1e-5)
    if detector.config.fusion == "average" and len(detector.config.lambdas) > 1:
        assert result.score_map.shape == mask.shape
    else:
        np.testing.assert_allclose(result.score_map, mask, atol=1e-5)
    assert 0 <= result.score <= 1


def test_the_denoiser_alone_scores_what_it_changes() -> None:
    detector = DenoisingAD(replace(TINY, method="DenoisingAD"))
    image = torch.full((1, 3, 32, 32), 0.5)
    restored = image.clone()
    restored[:, :, 4, 5] = 0.8
    mask = detector.score(torch.cat([image, restored], dim=1))
    assert mask[0, 0, 4, 5] == pytest.approx(0.3)
    assert mask.sum() == pytest.approx(0.3)


def test_the_autoencoder_has_a_bottleneck() -> None:
    """A change of one pixel reaches all others only through the narrow middle."""
    network = Autoencoder(4).eval()
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    assert network(image).shape == image.shape
    sizes = []
    for level, encode in enumerate(network.encoder):
        image = encode(image if level == 0 else F.max_pool2d(image, 2))
        sizes.append(image.shape[-1])
    assert sizes == [32, 16, 8, 4, 2]


def test_structural_similarity_is_that_of_a_second_implementation() -> None:
    rng = np.random.default_rng(0)
    one = rng.random((24, 24))
    other = np.clip(one + 0.2 * rng.standard_normal((24, 24)), 0, 1)

    def blur(values: np.ndarray) -> np.ndarray:
        return np.asarray(cv2.GaussianBlur(values, (11, 11), 1.5))[5:-5, 5:-5]

    mean_1, mean_2 = blur(one), blur(other)
    var_1, var_2 = blur(one**2) - mean_1**2, blur(other**2) - mean_2**2
    cov = blur(one * other) - mean_1 * mean_2
    expected = (
        (2 * mean_1 * mean_2 + 1e-4)
        * (2 * cov + 9e-4)
        / ((mean_1**2 + mean_2**2 + 1e-4) * (var_1 + var_2 + 9e-4))
    ).mean()
    tensors = [torch.from_numpy(v)[None, None] for v in (one, other)]
    assert float(structural_similarity(*tensors, 1.0)) == pytest.approx(expected, abs=1e-9)
    assert float(structural_similarity(tensors[0], tensors[0], 1.0)) == pytest.approx(1.0)


def test_an_ablation_has_no_bundle(data: Path, tmp_path: Path) -> None:
    recipe = Recipe(model=VARIANTS["DRAEM+"], train=SETTINGS)
    train(recipe, TrainingSet(data, TINY, SETTINGS), tmp_path / "run", device="cpu")
    with pytest.raises(ModelError, match=r"ablation DRAEM\+, which has no bundle") as caught:
        export(tmp_path / "run", tmp_path / "bundle")
    assert "evaluate --checkpoint" in caught.value.next_step
    assert not (tmp_path / "bundle").exists()


def test_norm_guidance_trains_as_the_authors_code(data: Path) -> None:
    recipe = norm_guided(RECIPES["nano"])
    assert recipe.model.schedule.beta_end == 2e-2
    assert recipe.model.lambdas == (200, 400)
    assert recipe.train.noise_loss_on == "normal"
    assert choose_recipe("nano", fusion="norm_guided") == recipe
    small = replace(recipe, model=replace(VARIANTS["norm-guided"]))
    trainer = Trainer(small, Processes(torch.device("cpu")))
    images = TrainingSet(data, TINY, small.train)
    steps = torch.cat([trainer._example(images.batch(n)).steps for n in range(5)], dim=1)
    assert steps.shape == (2, 5 * small.train.batch_size)
    assert int(steps[0].max()) < 300 <= int(steps[1].min())
    assert int(steps[1].max()) < 1000


def test_a_fusion_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="fusion 'mean'"):
        choose_recipe("nano", fusion="mean")
    with pytest.raises(UsageError, match="nothing to guide"):
        replace(TINY, method="DRAEM+", fusion="norm_guided", lambdas=(200, 400))
    with pytest.raises(UsageError, match="0 < split_timestep < max_timestep"):
        Recipe(model=VARIANTS["norm-guided"], train=replace(SETTINGS, max_timestep=200))


def test_the_encoder_can_be_chosen_for_any_size() -> None:
    nano, paper = RECIPES["nano"], RECIPES["paper"]
    assert nano.model.segmenter.encoder == "efficientnet-lite0"
    assert paper.model.segmenter.encoder == "none"
    without = choose_recipe("nano", encoder="none")
    assert without.model.segmenter == replace(nano.model.segmenter, encoder="none")
    assert without.train == nano.train
    with_features = choose_recipe("paper", encoder="efficientnet-lite0")
    assert with_features.model.denoiser == paper.model.denoiser
    assert with_features.model.segmenter.encoder == "efficientnet-lite0"
