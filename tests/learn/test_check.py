from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import TINY, save_discs

from dad_edge.config import Recipe, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.learn import train as training
from dad_edge.learn.check import Check, Figures, share_above
from dad_edge.learn.parallel import Processes
from dad_edge.learn.train import Step, train
from dad_edge.learn.trainer import Trainer
from dad_edge.model.checkpoint import STATE, WEIGHTS, read_tensors
from dad_edge.model.parts import parts_in

RUN = Recipe(model=TINY, train=TrainConfig(batch_size=4, epochs=1, learning_rate=2e-3))
ALONE = Processes(torch.device("cpu"))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    return TrainingSet(save_discs(tmp_path_factory.mktemp("data"), 36), TINY, RUN.train)


def test_share_above_is_the_auroc() -> None:
    good, bad = np.float32([0.1, 0.4, 0.4]), np.float32([0.4, 0.9])
    assert share_above(bad, good) == pytest.approx(5 / 6)


def test_training_helps_on_parts_kept_out(images: TrainingSet) -> None:
    trainer, check = Trainer(RUN, ALONE), Check(images)
    before = check.measure(trainer)
    assert before == check.measure(trainer)
    for step in range(60):
        trainer.learn(images.batch(step), 0.0)
    after = check.measure(trainer)
    assert before is not None
    assert after is not None
    assert after.loss < before.loss


def test_the_best_weights_stay(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = iter([0.5, 0.2, 0.4, 0.3, 0.6, 0.7, 0.8, 0.9])
    monkeypatch.setattr(Check, "measure", lambda *_: Figures(0.75, next(losses)))
    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", math.inf)
    seen: list[Step] = []
    summary = train(RUN, images, tmp_path, device="cpu", on_step=seen.append)
    assert read_tensors(tmp_path / WEIGHTS)[1]["step"] == "2"
    assert read_tensors(tmp_path / STATE)[1]["step"] == "7"
    assert "kept out 75.0%" in seen[-1].note
    assert summary["kept_out"] == {"parts": 8, "auroc": 0.75, "loss": 0.9}
    lines = [json.loads(line) for line in (tmp_path / training.LOG).read_text().splitlines()]
    assert lines[1] == {"step": 2, "kept_out": {"auroc": 0.75, "loss": 0.2}}
    assert parts_in(tmp_path) == images.parts

    resumed = Trainer(RUN, ALONE)
    resumed.load(tmp_path)
    assert resumed.best_loss == 0.2
