"""Several processes train as one does with the same whole batch."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tiny import TINY, save_discs
from torch import nn

from dad_edge.config import Recipe, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.errors import UsageError
from dad_edge.learn.parallel import Processes, SharedBatchNorm
from dad_edge.model.checkpoint import STATE, read_tensors, write_recipe

ROOT = Path(__file__).parents[2]
RUN = Recipe(
    model=TINY,
    train=TrainConfig(
        batch_size=4,
        learning_rate=5e-4,  # at larger rates rounding alone parts the curves
        epochs=40,
        cosine=True,
        ema_decay=0.9,
        grad_clip=1.0,
        noise_loss_on="normal",
    ),
)
"""40 steps; the noise loss counts images, which is where unequal shares would show."""
LOSS_TOLERANCE = 1e-2
"""Relative. Gradients that are zero but for rounding, as those of biases before BatchNorm, move
weights by whole steps of Adam, in a direction that depends on the order of sums."""
TWO_PROCESSES = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_discs(tmp_path_factory.mktemp("data"), 5)


def run_training(data: Path, folder: Path, recipe: Recipe, launcher: list[str]) -> Path:
    """Train through the command line and return the folder of the run."""
    folder.mkdir()
    write_recipe(folder, recipe)
    command = [
        *(sys.executable, *launcher, "-m", "dad_edge", "train", "--data", str(data)),
        *("--recipe", str(folder / "recipe.toml"), "--device", "cpu"),
        *("--out", str(folder / "run"), "--json"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary == json.loads((folder / "run" / "summary.json").read_text())
    return folder / "run"


def curve(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]


def test_two_processes_have_the_loss_curve_of_one(data: Path, tmp_path: Path) -> None:
    one = run_training(data, tmp_path / "one", RUN, [])
    two = run_training(data, tmp_path / "two", RUN, TWO_PROCESSES)
    assert json.loads((two / "summary.json").read_text())["processes"] == 2
    assert [line["step"] for line in curve(two)] == [20, 40]
    for alone, shared in zip(curve(one), curve(two), strict=True):
        for key in ("loss", "noise", "mask", "rate"):
            assert shared[key] == pytest.approx(alone[key], rel=LOSS_TOLERANCE), key
    assert curve(one)[1]["loss"] < (1 - 5 * LOSS_TOLERANCE) * curve(one)[0]["loss"]


def test_two_processes_have_the_gradients_of_one(data: Path, tmp_path: Path) -> None:
    """After a single step Adam's first moments are a tenth of the gradients."""
    guided = replace(
        RUN,
        model=replace(TINY, fusion="norm_guided", lambdas=(200, 400)),
        train=replace(RUN.train, epochs=1, grad_clip=0.0),
    )
    one = run_training(data, tmp_path / "one", guided, [])
    two = run_training(data, tmp_path / "two", guided, TWO_PROCESSES)
    first, second = (read_tensors(run / STATE)[0] for run in (one, two))
    differences = [
        float((second[name] - moment).norm() / moment.norm())
        for name, moment in first.items()
        if name.endswith("exp_avg") and moment.norm() > 1e-6  # others are zero but for rounding
    ]
    assert len(differences) > 30
    # Rounding turns over a ReLU or the winner of a max-pool here and there, in few layers.
    assert max(differences) < 0.1
    assert sorted(differences)[len(differences) // 2] < 1e-3
    statistics = [name for name in first if "running_" in name]
    assert len(statistics) > 10
    for name in statistics:
        torch.testing.assert_close(second[name], first[name], rtol=1e-4, atol=1e-6)


def test_the_rows_of_all_processes_are_the_whole_batch(data: Path) -> None:
    images = TrainingSet(data, TINY, RUN.train)
    whole = images.batch(3)
    for rank in range(2):
        rows = Processes(torch.device("cpu"), rank, 2).rows(4)
        part = images.batch(3, rows)
        for of_part, of_whole in zip(part, whole, strict=True):
            assert (of_part == of_whole[rows]).all()
        assert part.masks.any(axis=(1, 2)).tolist() == [False, True]


def test_a_batch_that_cannot_be_shared_fairly_is_refused() -> None:
    with pytest.raises(UsageError, match="6 cannot be shared by 2 processes") as caught:
        Processes(torch.device("cpu"), 0, 2).rows(6)
    assert "a multiple of 4" in caught.value.next_step


ENDS = """
import os
from pathlib import Path
import torch
from dad_edge.learn.parallel import processes_of

with processes_of(torch.device("cpu")) as processes:
    module = processes.share(torch.nn.Linear(3, 3))
    module(torch.ones(2, 3)).sum().backward()
    torch.optim.Adam(module.parameters()).step()
    del module
print(*(task.read_text().strip() for task in Path("/proc/self/task").glob("*/comm")), sep=chr(10))
"""


def test_no_thread_of_the_processes_outlives_their_training(tmp_path: Path) -> None:
    """One that does aborts the process now and then as it exits."""
    (tmp_path / "ends.py").write_text(ENDS)
    done = subprocess.run(
        [sys.executable, *TWO_PROCESSES, str(tmp_path / "ends.py")],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "python" in done.stdout
    assert "gloo" not in done.stdout


ENDS_OFTEN = """
import os
import socket
import torch
from dad_edge.learn.parallel import processes_of

for _ in range(60):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        os.environ["MASTER_PORT"] = str(free.getsockname()[1])
    with processes_of(torch.device("cpu")) as processes:
        module = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(3, 3))
        module(torch.ones(2, 3)).sum().backward()
        torch.distributed.all_reduce(torch.ones(3))
    del module
print("ended")
"""


def test_no_end_waits_for_a_thread_that_waits_for_python() -> None:
    """Without the pause before it, one in about 70 ends never came."""
    one = {"WORLD_SIZE": "1", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    done = subprocess.run(
        [sys.executable, "-c", ENDS_OFTEN],
        env={**os.environ, **one, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.stdout == "ended\n", done.stderr


def test_shared_statistics_of_one_process_are_the_usual_ones(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1
    )
    try:
        usual, shared = nn.BatchNorm2d(3), SharedBatchNorm(3)
        x = torch.randn(4, 3, 5, 5, generator=torch.Generator().manual_seed(0)) * 3 + 1
        inputs = [x.clone().requires_grad_() for _ in range(2)]
        weights = torch.linspace(0, 1, x.numel()).reshape(x.shape)
        for layer, value in zip((usual, shared), inputs, strict=True):
            (layer(value) * weights).sum().backward()
        assert inputs[0].grad is not None
        torch.testing.assert_close(inputs[1].grad, inputs[0].grad, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(shared.running_mean, usual.running_mean)
        torch.testing.assert_close(shared.running_var, usual.running_var)
    finally:
        torch.distributed.destroy_process_group()
