"""Training of both sub-networks, end to end (Algorithm 1)."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from dad_edge.bundle import write_ignore
from dad_edge.config import Recipe
from dad_edge.data.dataset import TrainingSet
from dad_edge.errors import Interrupted, ModelError, writing
from dad_edge.files import sole_writer, write_json
from dad_edge.image.masks import Mask
from dad_edge.learn.batches import batches
from dad_edge.learn.check import Check, Figures
from dad_edge.learn.origin import Origin
from dad_edge.learn.parallel import Processes, processes_of
from dad_edge.learn.recipes import refuse_earlier_run
from dad_edge.learn.trainer import Trainer
from dad_edge.machine.signals import StopRequest
from dad_edge.model import checkpoint
from dad_edge.model.device import choose_device
from dad_edge.model.parts import write_parts

LOG = "log.jsonl"
SAVE_SECONDS = 120.0
SAVE_SHARE = 0.05
"""Most of its time that a run may spend on saving; a large state is saved less often for it."""
LOG_STEPS = 20


@dataclass(frozen=True, slots=True)
class Step:
    """State of a run after a step."""

    step: int
    total_steps: int
    elapsed_s: float
    fraction: float
    """Share of the run that is done, by steps or by time, whichever is further."""
    losses: dict[str, float]
    kept_out: Figures | None = None
    """On parts kept out of training, as last measured."""

    @property
    def note(self) -> str:
        """The smoothed losses in a few words."""
        losses = f"noise {self.losses['noise']:.4f}  mask {self.losses['mask']:.4f}"
        measured = f"  kept out {self.kept_out.auroc:.1%}" if self.kept_out else ""
        return f"step {self.step}  {losses}{measured}"


def train(
    recipe: Recipe,
    images: TrainingSet,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    origin: Origin | None = None,
    ignore: Mask | None = None,
    on_step: Callable[[Step], None] | None = None,
    on_save: Callable[[Trainer], object] | None = None,
) -> dict[str, Any]:
    """Train until the epochs or the minutes are used up, or a signal asks to stop.

    Args:
        recipe: settings, as `prepare_recipe` gives them.
        images: normal images.
        folder: folder of the run; it is created.
        resume: continue the run that lies there.
        device: `auto`, `cpu` or `cuda`.
        origin: the files that the images come from; a resumed run must have the same. Not checked
            if None.
        ignore: where nothing is inspected; written beside the weights.
        on_step: called after every step.
        on_save: called after every save, for sample pictures.

    Returns:
        Summary of the run.

    Raises:
        Interrupted: a signal ended the run; everything is saved.
        UsageError: another run was saved in the folder, or the one to resume had another origin.
        StorageError: the run cannot be written, or another one is under way there.
    """
    with ExitStack() as held:
        processes = held.enter_context(processes_of(choose_device(device)))
        if processes.leads:
            held.enter_context(sole_writer(folder))
            if not resume:  # one may have ended there since the caller looked
                refuse_earlier_run(folder)
        trainer = Trainer(recipe, processes)
        notes: dict[str, str] = {}
        if resume:
            notes = trainer.load(folder)
        else:
            trainer.remember(images)
        if origin is not None:
            origin.refuse_other(notes, folder)
            notes = origin.to_metadata()
        if processes.leads:
            checkpoint.write_recipe(folder, recipe)
            if ignore is not None:
                write_ignore(folder, ignore)
        return _train(trainer, images, folder, notes, on_step, on_save)


def _train(
    trainer: Trainer,
    images: TrainingSet,
    folder: Path,
    notes: dict[str, str],
    on_step: Callable[[Step], None] | None,
    on_save: Callable[[Trainer], object] | None,
) -> dict[str, Any]:
    recipe, processes = trainer.recipe, trainer.processes
    settings = recipe.train
    check = Check(images)
    if processes.leads:
        write_parts(folder, images.parts)
    total_steps = settings.epochs * images.steps_per_epoch
    limit_s = settings.max_minutes * 60 if settings.max_minutes else math.inf
    started = time.monotonic() - trainer.elapsed_s
    next_save = time.monotonic() + SAVE_SECONDS
    recent: dict[str, float] = {}
    figures: Figures | None = None

    def fraction() -> float:
        return max(trainer.step / total_steps, trainer.elapsed_s / limit_s)

    def save() -> None:
        nonlocal figures
        if not processes.leads:
            return
        figures = check.measure(trainer)
        trainer.save(folder, notes, figures.loss if figures else None)
        if figures:
            log.write(json.dumps({"step": trainer.step, "kept_out": figures._asdict()}) + "\n")
        if on_save:
            on_save(trainer)

    steps = range(trainer.step, total_steps)
    made = batches(images, steps, trainer.rows, trainer.device)
    with StopRequest() as stop, _log(folder, processes) as log, closing(made):
        signal_number = 0
        for batch in made:
            # A clock and a signal differ between processes; what follows from them may not.
            trainer.elapsed_s, number = processes.largest((trainer.elapsed_s, stop.signal_number))
            signal_number = int(number)
            if fraction() >= 1 or signal_number:
                break
            losses = trainer.learn(batch, fraction())
            trainer.elapsed_s = time.monotonic() - started
            if not math.isfinite(losses["loss"]):
                raise _diverged(losses["loss"], trainer.step, folder)
            recent = {k: 0.95 * recent.get(k, v) + 0.05 * v for k, v in losses.items()}
            if trainer.step % LOG_STEPS == 0:
                line = {"step": trainer.step, "elapsed_s": round(trainer.elapsed_s, 1), **recent}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if on_step:
                on_step(
                    Step(trainer.step, total_steps, trainer.elapsed_s, fraction(), recent, figures)
                )
            if (begun := time.monotonic()) > next_save:
                save()
                ended = time.monotonic()
                next_save = ended + max(SAVE_SECONDS, (ended - begun) / SAVE_SHARE)
        save()
        signal_number = signal_number or stop.signal_number
    summary = {
        "run": folder.name,
        "size": recipe.model.size,
        "step": trainer.step,
        "epochs": round(trainer.step / images.steps_per_epoch, 1),
        "images": len(images),
        "minutes": round(trainer.elapsed_s / 60, 2),
        "device": str(trainer.device),
        "processes": processes.count,
        "finished": fraction() >= 1,
        "losses": {k: round(v, 6) for k, v in recent.items()},
        "kept_out": {
            "parts": len(images.parts.kept_out),
            **({k: round(v, 6) for k, v in figures._asdict().items()} if figures else {}),
        },
    }
    if processes.leads:
        write_json(folder / "summary.json", summary)
    if signal_number:
        raise Interrupted(
            f"training was stopped after step {trainer.step}; everything is saved in {folder}.",
            f"continue with 'dad-edge train --resume --out {folder}' and the same --data",
            signal_number,
        )
    return summary


def _diverged(loss: float, step: int, folder: Path) -> ModelError:
    """The error of a loss that is not finite, with the advice that fits what was saved."""
    happened = f"the loss became {loss} at step {step}"
    if not (folder / checkpoint.STATE).is_file():
        return ModelError(
            f"{happened}, before anything was saved.",
            "train again with a --recipe that has a lower learning rate",
        )
    return ModelError(
        f"{happened}; the state saved last is intact.",
        f"lower the learning rate in {folder / checkpoint.RECIPE}, then add --resume",
    )


@contextmanager
def _log(folder: Path, processes: Processes) -> Iterator[TextIO]:
    """The log of the run to append to; that of a process that does not lead goes nowhere."""
    path = folder / LOG if processes.leads else Path(os.devnull)
    with writing(path), path.open("a") as log:
        yield log
