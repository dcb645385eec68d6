"""Networks, optimiser and weight average of a training run: one step, saving, loading."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from dad_edge.config import Recipe, TrainConfig
from dad_edge.data.dataset import Batch, TrainingSet
from dad_edge.errors import ModelError
from dad_edge.learn.parallel import Processes
from dad_edge.machine.memory import keep_freed_memory
from dad_edge.model import checkpoint
from dad_edge.model.ablations import AnyDetector, build_detector, compares_features
from dad_edge.model.detector import Example, Losses

REMEMBERED_VIEWS, REMEMBERED_PLACES = 1024, 60_000
"""Of the good parts, at most: what the memory is chosen from, in half a minute."""


class _Step(nn.Module):
    """Loss of a training step as a module, which is what can be shared and compiled."""

    def __init__(self, detector: AnyDetector, settings: TrainConfig) -> None:
        super().__init__()
        self.detector = detector
        self._settings = settings

    def forward(self, example: Example) -> Losses:
        return self.detector.losses(example, self._settings)


class Trainer:
    """Networks, optimiser and weight average of one run."""

    def __init__(self, recipe: Recipe, processes: Processes) -> None:
        self.recipe = recipe
        self.processes = processes
        self.device = processes.device
        if self.device.type == "cpu":
            keep_freed_memory()
        self.rows = processes.rows(recipe.train.batch_size)
        torch.manual_seed(recipe.train.seed)
        layout = torch.channels_last
        self.detector = build_detector(recipe.model).to(self.device, memory_format=layout)  # type: ignore[call-overload]
        if (segmenter := compares_features(self.detector)) is not None:
            segmenter.features.load_published()
        self.average = build_detector(recipe.model).to(self.device)
        self.average.load_state_dict(self.detector.state_dict())
        on_gpu = self.device.type == "cuda"
        rate = recipe.train.learning_rate
        self.optimizer = torch.optim.Adam(self._groups(), lr=rate, fused=on_gpu)
        step = processes.share(_Step(self.detector, recipe.train))
        self._losses = torch.compile(step) if recipe.train.compile else step
        self._tensors = [list(net.state_dict().values()) for net in (self.average, self.detector)]
        self.step = 0
        self.elapsed_s = 0.0
        self.best_loss = math.inf
        """Smallest loss on the parts kept out, of the weights that are saved for evaluation."""

    def _groups(self) -> list[dict[str, Any]]:
        """The segmenter's parameters and all others, each with its share of the learning rate."""
        named = [(name, p) for name, p in self.detector.named_parameters() if p.requires_grad]
        segmenter = [p for name, p in named if name.startswith("segmenter.")]
        rest = [p for name, p in named if not name.startswith("segmenter.")]
        groups = [(rest, 1.0), (segmenter, self.recipe.train.segmenter_rate)]
        return [{"params": params, "share": share} for params, share in groups if params]

    def remember(self, images: TrainingSet) -> None:
        """Fill the memory of good parts, where the segmenter has one; before the first step."""
        segmenter = compares_features(self.detector)
        if segmenter is None:
            return
        segmenter.eval()
        seen = []
        with torch.no_grad():
            for view in self._scaled(images.good_views(REMEMBERED_VIEWS)).split(1):
                features = segmenter.memory.standardised(segmenter.features(view))[0]
                seen.append(features.flatten(1).T)
        generator = torch.Generator().manual_seed(self.recipe.train.seed)
        places = torch.cat(seen)
        some = torch.randperm(len(places), generator=generator)[:REMEMBERED_PLACES]
        segmenter.memory.fill(places[some.to(places.device)], generator)
        self.average.load_state_dict(self.detector.state_dict())

    def learn(self, batch: Batch, fraction: float) -> dict[str, float]:
        """One step of Algorithm 1.

        Args:
            batch: this process's rows of the step's batch.
            fraction: share of the run that is done, for the learning rate.

        Returns:
            Losses of the step, over all processes.
        """
        settings = self.recipe.train
        self.detector.train()
        example = self._example(batch)
        with torch.autocast(self.device.type, torch.bfloat16, self.device.type == "cuda"):
            losses = self._losses(example)
        loss = losses.restoration + losses.mask

        rate = settings.learning_rate
        if settings.cosine:
            rate *= 0.5 * (1 + math.cos(math.pi * min(fraction, 1.0)))
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        if settings.grad_clip:
            torch.nn.utils.clip_grad_norm_(self.detector.parameters(), settings.grad_clip)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        values = torch.stack([loss, losses.restoration, losses.mask]).detach().tolist()
        whole, restoration, mask = self.processes.mean(values)
        return {"loss": whole, "noise": restoration, "mask": mask, "rate": rate}

    def _example(self, batch: Batch) -> Example:
        """The batch on the device, with its noise and time steps.

        Noise and time steps are drawn on the device for the whole batch and cut to the rows of this
        process, so that they do not depend on how many processes share it.
        """
        settings, device = self.recipe.train, self.device
        image, mask = self.tensors(batch)
        generator = torch.Generator(device).manual_seed(settings.seed * 1_000_003 + self.step)
        ranges = [(0, settings.max_timestep)]
        if self.recipe.model.fusion == "norm_guided":
            split = settings.split_timestep
            ranges = [(0, split), (split, settings.max_timestep)]
        shape = (settings.batch_size, *image.shape[1:])
        drawn = [
            torch.randint(low, high, shape[:1], generator=generator, device=device)
            for low, high in ranges
        ]
        noise = torch.randn((len(ranges), *shape), generator=generator, device=device)
        steps = torch.stack(drawn)[:, self.rows]
        return Example(image, self._scaled(batch.originals), mask, noise[:, self.rows], steps)

    def tensors(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """(B,3,S,S) images in the model's value range and (B,1,S,S) masks, on the device."""
        mask = torch.as_tensor(batch.masks).to(self.device)[:, None].float()
        return self._scaled(batch.frames), mask

    def _scaled(self, frames: NDArray[np.uint8]) -> Tensor:
        low, high = self.recipe.model.value_range
        bgr = torch.as_tensor(frames).to(self.device, non_blocking=True)
        rgb = bgr.flip(-1).permute(0, 3, 1, 2)
        return rgb.float() * ((high - low) / 255.0) + low

    @torch.no_grad()
    def _update_average(self) -> None:
        """Exponential moving average, short at first so that it forgets the initial weights."""
        decay = min(self.recipe.train.ema_decay, (1 + self.step) / (10 + self.step))
        floats, counts = (
            [[t for t in tensors if t.is_floating_point() == averaged] for tensors in self._tensors]
            for averaged in (True, False)
        )
        get_ema_multi_avg_fn(decay)(*floats, self.step)
        for count, value in zip(*counts, strict=True):
            count.copy_(value)

    def save(self, folder: Path, notes: Mapping[str, str], loss: float | None = None) -> None:
        """Write what evaluation and resuming need.

        Args:
            folder: of the run.
            notes: kept with the state.
            loss: on the parts kept out, if there are any; weights that were better stay.

        Raises:
            StorageError: a file cannot be written; the earlier files are untouched.
        """
        tensors = {f"model.{k}": v for k, v in self.detector.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{index}.{k}": v for k, v in moments.items()}
        best = min(self.best_loss, math.inf if loss is None else loss)
        metadata = {
            **notes,
            "step": str(self.step),
            "elapsed_s": repr(self.elapsed_s),
            "best_loss": repr(best),
        }
        checkpoint.write_tensors(folder / checkpoint.STATE, tensors, metadata)
        if loss is None or loss <= best:
            checkpoint.write_tensors(
                folder / checkpoint.WEIGHTS, self.average.state_dict(), {"step": str(self.step)}
            )
        self.best_loss = best

    def load(self, folder: Path) -> dict[str, str]:
        """Continue from the state of an earlier run.

        Returns:
            What was kept with the state.

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
        self.best_loss = float(metadata.get("best_loss", math.inf))
        return metadata
