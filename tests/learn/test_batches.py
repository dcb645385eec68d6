from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny import TINY, save_discs

from dad_edge.config import TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.learn.batches import batches, load


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> TrainingSet:
    discs = save_discs(tmp_path_factory.mktemp("data"), 5)
    return TrainingSet(discs, TINY, TrainConfig(batch_size=4))


def test_the_cpu_gets_the_batches_of_its_steps(images: TrainingSet) -> None:
    found = list(batches(images, range(2, 5), slice(None), torch.device("cpu")))
    assert len(found) == 3
    for step, batch in zip(range(2, 5), found, strict=True):
        for tensor, array in zip(batch, images.batch(step), strict=True):
            assert torch.equal(torch.as_tensor(tensor), torch.from_numpy(array))


# PyTorch warns of more workers than cores; the batches are the same all the same.
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_workers_give_the_same_in_the_same_order(images: TrainingSet) -> None:
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (0, 0), 3)  # starts OpenCV's threads
    rows = slice(1, None, 2)
    alone = load(images, range(6), rows, workers=0)
    shared = load(images, range(6), rows, workers=2)
    for expected, found in zip(alone, shared, strict=True):
        assert all(
            torch.equal(*map(torch.as_tensor, pair)) for pair in zip(expected, found, strict=False)
        )


STOPPED_WITH_WORKERS = """
import os
import signal
import sys
import time
from contextlib import closing
from pathlib import Path

from tiny import TINY

from dad_edge.config import TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.learn.batches import load
from dad_edge.machine.signals import StopRequest

if __name__ == "__main__":
    images = TrainingSet(Path(sys.argv[1]), TINY, TrainConfig(batch_size=4))
    made = load(images, range(10**9), slice(None), workers=1)
    with StopRequest() as stop, closing(made):
        for count, _ in enumerate(made):
            if count == 2:
                os.killpg(0, signal.SIGTERM)  # as a service manager and `timeout` do
            if stop.requested:
                break
        batches_after = [next(made) for _ in range(3)]
        print("saved after", len(batches_after), flush=True)
    print("ended", flush=True)
"""


def test_a_signal_to_all_processes_of_a_training_leaves_it_time_to_save(tmp_path: Path) -> None:
    discs = save_discs(tmp_path / "data", 5)
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED_WITH_WORKERS)
    root = Path(__file__).parents[2]
    paths = os.pathsep.join([str(root), str(root / "tests/support")])
    done = subprocess.run(
        [sys.executable, script, discs],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        start_new_session=True,
        timeout=120,
    )
    assert done.stdout == "saved after 3\nended\n", done.stderr
    assert done.returncode == 0, done.stderr
