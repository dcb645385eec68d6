from __future__ import annotations

import errno
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import TINY, save_discs

from dad_edge.config import Recipe, TrainConfig, read_recipe
from dad_edge.data.dataset import TrainingSet
from dad_edge.errors import DeviceError, Interrupted, ModelError, StorageError, UsageError
from dad_edge.learn import train as training
from dad_edge.learn.origin import origin_of
from dad_edge.learn.parallel import Processes
from dad_edge.learn.recipes import prepare_recipe
from dad_edge.learn.train import Step, train
from dad_edge.learn.trainer import Trainer
from dad_edge.model import detector
from dad_edge.model.checkpoint import RECIPE, STATE, WEIGHTS, load_detector, read_tensors
from dad_edge.model.device import choose_device
from dad_edge.model.parts import PARTS

RUN = Recipe(
    model=TINY,
    train=TrainConfig(
        batch_size=4, learning_rate=2e-3, epochs=6, cosine=True, ema_decay=0.9, grad_clip=1.0
    ),
)
"""Six steps, with everything that has a state switched on."""

STOPS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
"""Signals that end a run, and exit codes."""

ALONE = Processes(torch.device("cpu"))


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_discs(tmp_path_factory.mktemp("data"), 5)


@pytest.fixture(scope="module")
def images(discs: Path) -> TrainingSet:
    return TrainingSet(discs, TINY, RUN.train)


@pytest.fixture(scope="module")
def finished(images: TrainingSet, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "finished"
    train(RUN, images, folder, device="cpu")
    return folder


def with_epochs(epochs: int) -> Recipe:
    return replace(RUN, train=replace(RUN.train, epochs=epochs))


def assert_equal_bits(one: Path, other: Path) -> None:
    for name in (WEIGHTS, STATE):
        first, second = read_tensors(one / name)[0], read_tensors(other / name)[0]
        assert set(first) == set(second)
        assert all(torch.equal(first[key], second[key]) for key in first), name


def full_disk(*_: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_run_leaves_what_the_next_stages_read(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == {
        RECIPE,
        WEIGHTS,
        STATE,
        PARTS,
        training.LOG,
        "summary.json",
    }
    detector, recipe = load_detector(finished)
    assert recipe == RUN
    averages = read_tensors(finished / STATE)[0]
    for name, value in detector.state_dict().items():
        assert torch.equal(value, averages[f"average.{name}"])
    summary = json.loads((finished / "summary.json").read_text())
    assert summary["step"] == 6
    assert summary["finished"]
    assert summary["device"] == "cpu"


def test_the_loss_decreases(images: TrainingSet, tmp_path: Path) -> None:
    trainer = Trainer(with_epochs(1), ALONE)
    losses = [trainer.learn(images.batch(step % 2), 0.0)["loss"] for step in range(30)]
    assert sum(losses[-8:]) < 0.8 * sum(losses[:8])


def test_without_an_average_the_weights_themselves_are_saved(
    images: TrainingSet, tmp_path: Path
) -> None:
    trainer = Trainer(replace(RUN, train=replace(RUN.train, ema_decay=0.0)), ALONE)
    trainer.learn(images.batch(0), 0.0)
    for name, value in trainer.detector.state_dict().items():
        assert torch.equal(value, trainer.average.state_dict()[name]), name


def test_the_learning_rate_follows_the_half_cosine(images: TrainingSet) -> None:
    trainer = Trainer(RUN, ALONE)
    rates = [trainer.learn(images.batch(0), fraction)["rate"] for fraction in (0.0, 0.5, 1.0)]
    assert rates == pytest.approx([2e-3, 1e-3, 0.0], abs=1e-12)


def test_the_segmenter_has_its_own_share_of_the_learning_rate(images: TrainingSet) -> None:
    trainer = Trainer(replace(RUN, train=replace(RUN.train, segmenter_rate=1e-3)), ALONE)
    before = {name: value.detach().clone() for name, value in trainer.detector.named_parameters()}
    trainer.learn(images.batch(0), 0.0)
    moved: dict[str, float] = {}
    for name, value in trainer.detector.named_parameters():
        network = name.split(".")[0]
        change = float((value.detach() - before[name]).abs().max())
        moved[network] = max(moved.get(network, 0.0), change)
    # The first step of Adam moves every weight by its learning rate.
    assert moved == {
        "denoiser": pytest.approx(2e-3, rel=0.01),
        "segmenter": pytest.approx(2e-6, rel=0.05),
    }


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize(("number", "code"), STOPS)
def test_a_stopped_and_resumed_run_equals_an_uninterrupted_one(
    images: TrainingSet, finished: Path, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    def stop(progress: Step) -> None:
        if progress.step == 3:
            os.kill(os.getpid(), number)

    handlers = [signal.getsignal(s) for s, _ in STOPS]
    with pytest.raises(Interrupted, match="after step 3; everything is saved") as caught:
        train(RUN, images, tmp_path / "run", device="cpu", on_step=stop)
    assert caught.value.exit_code == code
    assert "--resume" in caught.value.next_step
    assert [signal.getsignal(s) for s, _ in STOPS] == handlers

    recipe = prepare_recipe(with_epochs(6), tmp_path / "run", resume=True)
    assert recipe == RUN
    summary = train(recipe, images, tmp_path / "run", resume=True, device="cpu")
    assert summary["step"] == 6
    assert_equal_bits(tmp_path / "run", finished)


def test_resuming_keeps_the_recipe_and_takes_new_limits(finished: Path) -> None:
    other = Recipe(train=TrainConfig(epochs=9, seed=77))
    assert prepare_recipe(other, finished, resume=True) == RUN
    recipe = prepare_recipe(other, finished, resume=True, epochs=9, max_minutes=2.0)
    assert recipe.model == TINY
    assert recipe.train == replace(RUN.train, epochs=9, max_minutes=2.0)


def test_an_existing_run_is_not_overwritten(finished: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a run already") as caught:
        prepare_recipe(RUN, finished, resume=False)
    assert "--resume" in caught.value.next_step
    (tmp_path / WEIGHTS).write_bytes(b"weights alone")
    with pytest.raises(UsageError, match="holds a run already"):
        prepare_recipe(RUN, tmp_path, resume=False)


def test_nothing_to_resume(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="holds no run to resume"):
        prepare_recipe(RUN, tmp_path, resume=True)


def test_a_state_of_another_size_is_refused(finished: Path) -> None:
    wider = replace(TINY, denoiser=replace(TINY.denoiser, base_channels=16))
    with pytest.raises(ModelError, match="is of another size"):
        Trainer(replace(RUN, model=wider), ALONE).load(finished)


def test_a_full_disk_keeps_the_earlier_state(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(progress: Step) -> None:
        if progress.step == 3:
            monkeypatch.setattr(os, "fsync", full_disk)

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", math.inf)
    with pytest.raises(StorageError, match=r"state\.safetensors: the disk is full"):
        train(RUN, images, tmp_path, device="cpu", on_step=fill)
    assert {p.name for p in tmp_path.iterdir()} == {RECIPE, WEIGHTS, STATE, PARTS, training.LOG}
    assert read_tensors(tmp_path / STATE)[1]["step"] == "2"
    with pytest.raises(StorageError, match=r"recipe\.toml: the disk is full"):
        train(RUN, images, tmp_path, device="cpu", resume=True)
    assert read_recipe(tmp_path / RECIPE) == RUN
    monkeypatch.undo()
    assert train(RUN, images, tmp_path, device="cpu", resume=True)["step"] == 6


def test_a_large_state_is_saved_less_often(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save of 10 s, which is 5 % of 200 s, and steps of 30 s."""
    now, saves = [0.0], []
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    save = training.Trainer.save

    def slow(self: Trainer, *arguments: Any) -> None:
        saves.append((self.step, now[0]))
        save(self, *arguments)
        now[0] += 10

    def step(progress: Step) -> None:
        now[0] += 30

    monkeypatch.setattr(training.Trainer, "save", slow)
    train(with_epochs(16), images, tmp_path, device="cpu", on_step=step)
    assert saves == [(5, 150.0), (12, 370.0), (16, 500.0)]


def test_a_loss_that_is_no_number_ends_the_run(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(progress: Step) -> None:
        if progress.step == 2:
            monkeypatch.setattr(detector, "mask_loss", lambda *_: torch.tensor(math.nan))

    monkeypatch.setattr(training, "SAVE_SECONDS", 0.0)
    monkeypatch.setattr(training, "SAVE_SHARE", math.inf)
    with pytest.raises(ModelError, match="the loss became nan at step 3") as caught:
        train(RUN, images, tmp_path, device="cpu", on_step=spoil)
    assert "learning rate" in caught.value.next_step
    tensors, metadata = read_tensors(tmp_path / STATE)
    assert metadata["step"] == "2"
    assert all(bool(value.isfinite().all()) for value in tensors.values())


def test_a_loss_that_is_no_number_before_the_first_save_does_not_promise_one(
    images: TrainingSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector, "mask_loss", lambda *_: torch.tensor(math.nan))
    with pytest.raises(ModelError, match="at step 1, before anything was saved") as caught:
        train(RUN, images, tmp_path, device="cpu")
    assert "resume" not in caught.value.next_step
    monkeypatch.undo()
    assert train(RUN, images, tmp_path, device="cpu")["finished"]


def test_two_trainings_do_not_write_into_one_folder(images: TrainingSet, tmp_path: Path) -> None:
    def second(progress: Step) -> None:
        with pytest.raises(StorageError, match="another dad-edge writes into"):
            train(RUN, images, tmp_path, device="cpu")
        with pytest.raises(StorageError, match="another dad-edge writes into"):
            train(RUN, images, tmp_path, device="cpu", resume=True)

    train(with_epochs(1), images, tmp_path, device="cpu", on_step=second)
    with pytest.raises(UsageError, match="holds a run already"):
        train(RUN, images, tmp_path, device="cpu")


def test_a_run_is_not_resumed_in_another_size(finished: Path) -> None:
    with pytest.raises(UsageError, match="has the size 'nano', not 'edge'") as caught:
        prepare_recipe(RUN, finished, resume=True, size="edge")
    assert "--size" in caught.value.next_step
    assert prepare_recipe(RUN, finished, resume=True, size="nano") == RUN


def test_a_run_is_not_resumed_with_other_images(
    images: TrainingSet, discs: Path, tmp_path: Path
) -> None:
    run, moved = tmp_path / "run", tmp_path / "moved"
    train(with_epochs(1), images, run, device="cpu", origin=origin_of(discs, None))
    shutil.copytree(discs, moved)
    resumed = train(with_epochs(2), images, run, resume=True, origin=origin_of(moved, None))
    assert resumed["step"] == 2
    (moved / "train" / "good" / "000.png").unlink()
    with pytest.raises(UsageError, match="learned from 5 images, and --data holds 4 now"):
        train(with_epochs(3), images, run, resume=True, origin=origin_of(moved, None))
    shutil.copy(discs / "train" / "good" / "001.png", moved / "train" / "good" / "000.png")
    with pytest.raises(UsageError, match="from other images than those that --data holds now"):
        train(with_epochs(3), images, run, resume=True, origin=origin_of(moved, None))
    textured = origin_of(discs, discs / "train" / "good")
    with pytest.raises(UsageError, match="with other --textures"):
        train(with_epochs(3), images, run, resume=True, origin=textured)


def test_a_state_that_names_no_images_is_resumed_with_any(
    images: TrainingSet, discs: Path, tmp_path: Path
) -> None:
    train(with_epochs(1), images, tmp_path, device="cpu")
    origin = origin_of(discs, None)
    assert train(with_epochs(2), images, tmp_path, resume=True, origin=origin)["step"] == 2
    assert origin.to_metadata().items() <= read_tensors(tmp_path / STATE)[1].items()


def test_the_run_needs_a_folder(images: TrainingSet, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="a file is in the way of a folder"):
        train(RUN, images, tmp_path / "file", device="cpu")


def test_cuda_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_device("auto") == torch.device("cpu")
    with pytest.raises(DeviceError, match="finds no CUDA device"):
        choose_device("cuda")


ENDLESS = """
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any
import dad_edge.cli.main as cli
from tiny import TINY
from dad_edge.config import Recipe, TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.learn.train import train

@cli.app.command()
def endless(data: Path, out: Path) -> None:
    recipe = Recipe(model=TINY, train=TrainConfig(batch_size=2, epochs=1_000_000))
    images = TrainingSet(data, TINY, recipe.train)
    train(recipe, images, out, device="cpu", on_step=lambda p: print(p.step, flush=True))

cli.main()
"""


@pytest.mark.usefixtures("hangup_is_heard")
def test_signals_end_the_program_with_their_exit_codes(discs: Path, tmp_path: Path) -> None:
    paths = os.pathsep.join(
        [str(Path(__file__).parents[1] / "support"), str(Path(__file__).parents[2])]
    )
    runs = {
        number: subprocess.Popen(
            [sys.executable, "-c", ENDLESS, "endless", str(discs), str(tmp_path / number.name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": paths},
        )
        for number, _ in STOPS
    }
    for number, run in runs.items():
        assert run.stdout is not None
        assert run.stdout.readline().strip() == "1"
        run.send_signal(number)
        _, errors = run.communicate(timeout=150)
        assert run.returncode == 128 + number, errors
        assert "everything is saved" in errors
        assert "next: continue with 'dad-edge train --resume" in errors
        assert int(read_tensors(tmp_path / number.name / STATE)[1]["step"]) >= 1
        load_detector(tmp_path / number.name)
