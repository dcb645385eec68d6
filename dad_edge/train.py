"""Training of both sub-networks, end to end (Algorithm 1)."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from dad_edge.bundle import write_json
from dad_edge.config import RECIPES, Recipe, SizeName, read_recipe
from dad_edge.data.dataset import Batch, TrainingSet
from dad_edge.errors import DeviceError, Interrupted, ModelError, UsageError, writing
from dad_edge.model import checkpoint, diffusion
from dad_edge.model.detector import Detector
from dad_edge.model.losses import mask_loss, noise_loss
from dad_edge.signals import StopRequest

LOG = "log.jsonl"
SAVE_SECONDS = 120.0
LOG_STEPS = 20


@dataclass(frozen=True, slots=True)
class Progress:
    """State of a run after a step."""

    step: int
    total_steps: int
    elapsed_s: float
    fraction: float
    """Share of the run that is done, by steps or by time, whichever is further."""
    losses: dict[str, float]

    @property
    def note(self) -> str:
        """The smoothed losses in a few words."""
        return f"step {self.step}  noise {self.losses['noise']:.4f}  mask {self.losses['mask']:.4f}"


class Trainer:
    """Networks, optimiser and weight average of one run."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.recipe = recipe
        self.device = device
        torch.manual_seed(recipe.train.seed)
        layout = torch.channels_last
        self.detector = Detector(recipe.model).to(device, memory_format=layout)  # type: ignore[call-overload]
        self.average = Detector(recipe.model).to(device)
        self.average.load_state_dict(self.detector.state_dict())
        self.optimizer = torch.optim.Adam(self.detector.parameters(), lr=recipe.train.learning_rate)
        self.step = 0
        self.elapsed_s = 0.0

    def learn(self, batch: Batch, fraction: float) -> dict[str, float]:
        """One step of Algorithm 1.

        Args:
            batch: images and masks.
            fraction: share of the run that is done, for the learning rate.

        Returns:
            Losses of the step.
        """
        settings = self.recipe.train
        self.detector.train()
        image, mask = self.tensors(batch)
        generator = torch.Generator().manual_seed(settings.seed * 1_000_003 + self.step)
        t_B = torch.randint(0, settings.max_timestep, (len(image),), generator=generator)
        noise = torch.randn(image.shape, generator=generator).to(self.device)
        t_B = t_B.to(self.device)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            alpha_bar = self.detector.alpha_bar[t_B][:, None, None, None]
            predicted, restored = self.detector.estimate(
                diffusion.corrupt(image, noise, alpha_bar), t_B
            )
            logits = self.detector.segment(image, restored)
        denoising = noise_loss(predicted.float(), noise, mask, settings.noise_loss_on)
        segmentation = mask_loss(logits.float(), mask, settings.focal_weight)
        loss = denoising + segmentation

        rate = settings.learning_rate
        if settings.cosine:
            rate *= 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), settings.grad_clip)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return {
            "loss": float(loss.detach()),
            "noise": float(denoising.detach()),
            "mask": float(segmentation.detach()),
            "rate": rate,
        }

    def tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B,3,S,S) images in the model's value range and (B,1,S,S) masks, on the device."""
        low, high = self.recipe.model.value_range
        rgb = torch.from_numpy(np.ascontiguousarray(batch.frames[..., ::-1])).to(self.device)
        image = rgb.permute(0, 3, 1, 2).float() * ((high - low) / 255.0) + low
        mask = torch.from_numpy(batch.masks).to(self.device)[:, None].float()
        return image, mask

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average, short at first so that it forgets the initial weights."""
        decay = min(self.recipe.train.ema_decay, (1 + self.step) / (10 + self.step))
        current = self.detector.state_dict()
        for name, value in self.average.state_dict().items():
            if value.is_floating_point():
                value.lerp_(current[name], 1 - decay)
            else:
                value.copy_(current[name])

    def save(self, folder: Path) -> None:
        """Write what evaluation and resuming need.

        Raises:
            StorageError: a file cannot be written; the earlier files are untouched.
        """
        tensors = {f"model.{k}": v for k, v in self.detector.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        metadata = {"step": str(self.step), "elapsed_s": repr(self.elapsed_s)}
        checkpoint.write_tensors(folder / checkpoint.STATE, tensors, metadata)
        checkpoint.write_tensors(
            folder / checkpoint.WEIGHTS, self.average.state_dict(), {"step": str(self.step)}
        )

    def load(self, folder: Path) -> None:
        """Continue from the state of an earlier run.

        Raises:
            ModelError: the state is missing, damaged or of another size.
        """
        tensors, metadata = checkpoint.read_tensors(folder / checkpoint.STATE)

        def part(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        try:
            self.detector.load_state_dict(part("model."))
            self.average.load_state_dict(part("average."))
        except RuntimeError as error:
            raise ModelError(
                f"{folder / checkpoint.STATE} is of another size than the run to resume.",
                f"put back the {checkpoint.RECIPE} that belongs to it, or train elsewhere",
            ) from error
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in part("adam.").items():
            index, moment = name.split(".", 1)
            state.setdefault(int(index), {})[moment] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = int(metadata["step"])
        self.elapsed_s = float(metadata["elapsed_s"])


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(
            "PyTorch finds no CUDA device.", "use --device cpu, or run 'dad-edge doctor'"
        )
    return torch.device(name)


def choose_recipe(
    size: str,
    file: Path | None = None,
    *,
    epochs: int | None = None,
    max_minutes: float | None = None,
    seed: int | None = None,
) -> Recipe:
    """The recipe of a size or a file, with the limits of the command line.

    Raises:
        UsageError: there is no such size, or a limit is not positive.
        ModelError: the file is not a recipe.
    """
    if file is None and size not in RECIPES:
        raise UsageError(f"there is no size '{size}'.", f"choose one of {', '.join(RECIPES)}")
    recipe = read_recipe(file) if file else RECIPES[cast(SizeName, size)]
    changes: dict[str, Any] = {"epochs": epochs, "max_minutes": max_minutes, "seed": seed}
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(recipe, train=replace(recipe.train, **given))


def prepare_recipe(
    recipe: Recipe,
    folder: Path,
    resume: bool,
    *,
    epochs: int | None = None,
    max_minutes: float | None = None,
) -> Recipe:
    """The recipe of this run: the given one, or the one to resume.

    Args:
        recipe: of a new run.
        folder: of the run.
        resume: continue the run that lies there, with its own settings.
        epochs: a new limit of a resumed run; its own if None.
        max_minutes: likewise.

    Raises:
        UsageError: the folder holds a run already and resuming was not asked for.
        ModelError: there is nothing to resume.
    """
    if resume:
        if not (folder / checkpoint.STATE).is_file():
            raise ModelError(
                f"{folder} holds no run to resume.", "leave --resume out to start one there"
            )
        earlier = read_recipe(folder / checkpoint.RECIPE)
        limits: dict[str, Any] = {"epochs": epochs, "max_minutes": max_minutes}
        given = {name: value for name, value in limits.items() if value is not None}
        return replace(earlier, train=replace(earlier.train, **given))
    if any((folder / name).is_file() for name in (checkpoint.STATE, checkpoint.WEIGHTS)):
        raise UsageError(f"{folder} holds a run already.", "add --resume, or choose another --out")
    return recipe


def train(
    recipe: Recipe,
    images: TrainingSet,
    folder: Path,
    *,
    resume: bool = False,
    device: str = "auto",
    on_step: Callable[[Progress], None] | None = None,
    on_save: Callable[[Trainer], object] | None = None,
) -> dict[str, Any]:
    """Train until the epochs or the minutes are used up, or a signal asks to stop.

    Args:
        recipe: settings, as `prepare_recipe` gives them.
        images: normal images.
        folder: folder of the run; it is created.
        resume: continue the run that lies there.
        device: `auto`, `cpu` or `cuda`.
        on_step: called after every step.
        on_save: called after every save, for sample pictures.

    Returns:
        Summary of the run.

    Raises:
        Interrupted: a signal ended the run; everything is saved.
        StorageError: the run cannot be written.
    """
    settings = recipe.train
    trainer = Trainer(recipe, choose_device(device))
    if resume:
        trainer.load(folder)
    checkpoint.write_recipe(folder, recipe)
    total_steps = settings.epochs * images.steps_per_epoch
    limit_s = settings.max_minutes * 60 if settings.max_minutes else math.inf
    started = time.monotonic() - trainer.elapsed_s
    saved_at = time.monotonic()
    recent: dict[str, float] = {}

    def fraction() -> float:
        return max(trainer.step / total_steps, trainer.elapsed_s / limit_s)

    def save() -> None:
        trainer.save(folder)
        if on_save:
            on_save(trainer)

    with StopRequest() as stop, writing(folder / LOG), (folder / LOG).open("a") as log:
        while fraction() < 1 and not stop.requested:
            losses = trainer.learn(images.batch(trainer.step), fraction())
            trainer.elapsed_s = time.monotonic() - started
            if not math.isfinite(losses["loss"]):
                raise ModelError(
                    f"the loss became {losses['loss']} at step {trainer.step}; "
                    "the last saved state is intact.",
                    "resume with a lower learning rate in the recipe",
                )
            recent = {k: 0.95 * recent.get(k, v) + 0.05 * v for k, v in losses.items()}
            if trainer.step % LOG_STEPS == 0:
                line = {"step": trainer.step, "elapsed_s": round(trainer.elapsed_s, 1), **recent}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if on_step:
                on_step(Progress(trainer.step, total_steps, trainer.elapsed_s, fraction(), recent))
            if time.monotonic() - saved_at > SAVE_SECONDS:
                save()
                saved_at = time.monotonic()
        save()
    summary = {
        "run": folder.name,
        "size": recipe.model.size,
        "step": trainer.step,
        "epochs": round(trainer.step / images.steps_per_epoch, 1),
        "images": len(images),
        "minutes": round(trainer.elapsed_s / 60, 2),
        "device": str(trainer.device),
        "finished": fraction() >= 1,
        "losses": {k: round(v, 6) for k, v in recent.items()},
    }
    write_json(folder / "summary.json", summary)
    if stop.requested:
        raise Interrupted(
            f"training was stopped after step {trainer.step}; everything is saved in {folder}.",
            f"continue with 'dad-edge train --resume --out {folder}' and the same --data",
            stop.signal_number,
        )
    return summary
