"""What runs on a CUDA device has to agree with the CPU: run by `make gpu`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from exported_run import make_run
from tiny import TINY

from dad_edge.config import Recipe, TrainConfig
from dad_edge.data.dataset import Batch
from dad_edge.learn.parallel import Processes
from dad_edge.learn.trainer import Trainer
from dad_edge.model import noise
from dad_edge.runtime.cpu.engine_torch import torch_inspector

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
]


def test_the_engine_agrees_with_the_cpu(
    tmp_path: Path, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    detector = make_run(tmp_path, TINY)
    frames = [dark_frame, bright_frame]
    expected = torch_inspector(detector, device="cpu").inspect_batch(frames)
    found = torch_inspector(detector, device="cuda").inspect_batch(frames)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.score_map, other.score_map, atol=1e-4)


def test_the_noise_is_the_same() -> None:
    arguments = {"seed": 7, "lambda_index": 1, "frame_counter": 3}
    on_device = noise.normal((3, 16, 16), device="cuda", **arguments).cpu()
    torch.testing.assert_close(on_device, noise.normal((3, 16, 16), **arguments), atol=1e-6, rtol=0)


def test_training_learns(tmp_path: Path) -> None:
    recipe = Recipe(model=TINY, train=TrainConfig(batch_size=4, learning_rate=1e-3))
    trainer = Trainer(recipe, Processes(torch.device("cuda")))
    frames = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    masks = np.zeros((4, 32, 32), bool)
    masks[2:, 8:16, 8:16] = True
    losses = [trainer.learn(Batch(frames, masks, frames), 0.0)["loss"] for _ in range(30)]
    assert losses[-1] < 0.8 * losses[0]
    trainer.save(tmp_path, {})
    assert (tmp_path / "model.safetensors").stat().st_size > 1000
