from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from dad_edge.config import (
    RECIPES,
    DenoiserConfig,
    FramingConfig,
    ModelConfig,
    Recipe,
    ScheduleConfig,
    SegmenterConfig,
    TrainConfig,
    read_recipe,
)
from dad_edge.documents import to_mapping
from dad_edge.errors import ModelError, UsageError


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("size", list(RECIPES))
def test_every_recipe_survives_a_file(size: Any, tmp_path: Path) -> None:
    recipe = RECIPES[size]
    assert recipe.model.size == size
    assert read_recipe(write(tmp_path, tomli_w.dumps(to_mapping(recipe)))) == recipe


def test_optional_values_survive_a_file(tmp_path: Path) -> None:
    recipe = replace(RECIPES["nano"], train=TrainConfig(max_minutes=2.5))
    assert read_recipe(write(tmp_path, tomli_w.dumps(to_mapping(recipe)))) == recipe


def test_paper_is_the_papers_configuration() -> None:
    paper = RECIPES["paper"]
    assert paper == Recipe()
    assert paper.model.image_size == 256
    assert paper.model.lambdas == (100, 200)
    assert paper.model.top_k == 50
    assert paper.model.schedule == ScheduleConfig(timesteps=1000, beta_start=1e-4, beta_end=1e-2)
    assert paper.model.denoiser.channel_mults == (1, 1, 2, 2, 4, 4)
    assert (paper.train.batch_size, paper.train.epochs, paper.train.learning_rate) == (6, 500, 1e-4)
    assert paper.train.focal_weight == 5.0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("modle = 1", "unknown key 'modle'; known are model, train"),
        ("[model.denoiser]\nbase = 8", "model.denoiser: unknown key 'base'"),
        ("[model]\nimage_size = 256.0", "model.image_size: expected int, got 256.0"),
        ("[model]\nsize = 'huge'", "model.size: expected .*nano.*, got 'huge'"),
        ("[train]\nlearning_rate = nan", "train: learning_rate must be a positive number, got nan"),
        ("[train]\nmax_minutes = inf", "train: epochs and max-minutes must be positive, .* inf"),
        ("[train]\nbatch_size = 5", "train: batch_size must be even"),
        ("[model", "not valid TOML"),
    ],
)
def test_a_wrong_recipe_is_refused_with_its_place(text: str, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ModelError, match=says) as caught:
        read_recipe(path)
    assert str(path) in caught.value.message


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (ScheduleConfig, {"timesteps": 0}),
        (ScheduleConfig, {"timesteps": 10**12}),
        (ScheduleConfig, {"beta_start": 0.0}),
        (ScheduleConfig, {"beta_start": 0.1, "beta_end": 0.01}),
        (ScheduleConfig, {"beta_end": 1.0}),
        (DenoiserConfig, {"base_channels": 40}),
        (DenoiserConfig, {"base_channels": 0}),
        (DenoiserConfig, {"norm_groups": 0}),
        (DenoiserConfig, {"heads": 0}),
        (DenoiserConfig, {"heads": 3}),
        (DenoiserConfig, {"res_blocks": 0}),
        (DenoiserConfig, {"channel_mults": ()}),
        (SegmenterConfig, {"base_width": 0}),
        (ModelConfig, {"image_size": 0}),
        (ModelConfig, {"image_size": -256}),
        (ModelConfig, {"image_size": 250}),
        (ModelConfig, {"image_size": 32 * 10**9}),
        (ModelConfig, {"lambdas": ()}),
        (ModelConfig, {"lambdas": (200, 100)}),
        (ModelConfig, {"lambdas": (100, 100)}),
        (ModelConfig, {"lambdas": (0, 100)}),
        (ModelConfig, {"lambdas": (100, 1000)}),
        (ModelConfig, {"fusion": "norm_guided", "lambdas": (100, 200, 400)}),
        (ModelConfig, {"value_range": (1.0, 0.0)}),
        (ModelConfig, {"value_range": (1.0, 1.0)}),
        (ModelConfig, {"value_range": (0.0, math.inf)}),
        (ModelConfig, {"value_range": (math.nan, 1.0)}),
        (FramingConfig, {"overlap": -0.1}),
        (FramingConfig, {"overlap": 12.5}),
        (FramingConfig, {"overlap": math.nan}),
        (FramingConfig, {"tiles": (0, 1)}),
        (FramingConfig, {"tiles": (1, 10**9)}),
        (ModelConfig, {"top_k": 0}),
        (ModelConfig, {"top_k": 256 * 256 + 1}),
        (TrainConfig, {"batch_size": 0}),
        (TrainConfig, {"batch_size": 7}),
        (TrainConfig, {"epochs": 0}),
        (TrainConfig, {"max_minutes": 0.0}),
        (TrainConfig, {"max_minutes": math.inf}),
        (TrainConfig, {"learning_rate": 0.0}),
        (TrainConfig, {"learning_rate": math.nan}),
        (TrainConfig, {"focal_weight": math.nan}),
        (TrainConfig, {"grad_clip": -1.0}),
        (TrainConfig, {"ema_decay": math.nan}),
        (TrainConfig, {"ema_decay": 1.0}),
        (TrainConfig, {"seed": -1}),
        (TrainConfig, {"seed": 2**63}),
        (Recipe, {"train": TrainConfig(max_timestep=1001)}),
    ],
)
def test_settings_without_sense_are_refused(kind: type, values: dict[str, Any]) -> None:
    with pytest.raises(UsageError) as caught:
        kind(**values)
    assert caught.value.next_step


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: DenoiserConfig(channel_mults=(1, 100_000)), "channel_mults must be at most 64"),
        (lambda: DenoiserConfig(base_channels=2**20), "base_channels must be at most 8192"),
        (lambda: DenoiserConfig(res_blocks=10_000), "res_blocks must be at most 32"),
        (lambda: SegmenterConfig(base_width=100_000), "base_width must be at most 1024"),
        (lambda: ModelConfig(lambdas=tuple(range(1, 900))), "number of lambdas must be at most 32"),
        (lambda: TrainConfig(batch_size=1_000_000), "batch_size must be at most 4096"),
    ],
)
def test_slips_that_would_fill_the_memory_are_refused(make: Any, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        make()
