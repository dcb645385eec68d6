"""The same seed gives the same weights in another process, another seed gives others."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import TINY, save_discs

pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")

from dad_edge.config import Recipe, TrainConfig
from dad_edge.files import sha256_of
from dad_edge.model.checkpoint import RECIPE, WEIGHTS, write_recipe

ROOT = Path(__file__).parents[2]
RECIPE_OF_RUNS = Recipe(
    model=TINY, train=TrainConfig(batch_size=4, learning_rate=2e-3, epochs=3, ema_decay=0.9)
)


def train_in_a_process(data: Path, recipe: Path, out: Path, seed: int) -> str:
    """Digest of the weights that `dad-edge train` makes in a new process."""
    words = ["train", "--data", data, "--recipe", recipe, "--out", out, "--seed", seed]
    done = subprocess.run(
        [sys.executable, "-m", "dad_edge", *map(str, words), "--device", "cpu"],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return sha256_of(out / WEIGHTS)


def test_the_same_seed_gives_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    data = save_discs(tmp_path / "data", 5)
    write_recipe(tmp_path / "recipe", RECIPE_OF_RUNS)
    first, again, other = (
        train_in_a_process(data, tmp_path / "recipe" / RECIPE, tmp_path / name, seed)
        for name, seed in (("first", 3), ("again", 3), ("other", 4))
    )
    assert first == again
    assert first != other
