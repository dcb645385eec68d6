"""Pictures of what a network sees and answers during training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from dad_edge.data.dataset import TrainingSet
from dad_edge.image.pictures import SheetRow, contact_sheet, heat_overlay, mark_mask, write_picture
from dad_edge.image.preprocess import to_frame

if TYPE_CHECKING:
    from dad_edge.learn.trainer import Trainer

FOLDER = "samples"
SAMPLE_STEP = 1_000_000_007
"""A step that no run reaches: its batch is the same in every picture of a run."""


class SampleSheet:
    """Writes one sheet at every save, with the same images each time, so that progress shows."""

    def __init__(self, images: TrainingSet, folder: Path) -> None:
        self._batch = images.batch(SAMPLE_STEP)
        self._folder = folder / FOLDER

    def write(self, trainer: Trainer) -> Path:
        """Write `samples/step-<n>.png`: image, x̂0, heat map and true mask.

        Raises:
            StorageError: the picture cannot be written.
        """
        detector, model = trainer.average.eval(), trainer.recipe.model
        image, _ = trainer.tensors(self._batch)
        generator = torch.Generator().manual_seed(0)
        shape = (len(model.lambdas), *image.shape)
        noise = torch.randn(shape, generator=generator).to(image.device)
        with torch.no_grad():
            masks, restored = detector(image, noise)
        rows = []
        for row, frame in enumerate(self._batch.frames):
            heat = (masks[row, 0].clip(0, 1) * 255).byte().cpu().numpy()
            estimate = to_frame(restored[-1, row].cpu().numpy(), model.value_range)
            truth = self._batch.masks[row].astype(np.uint8) * 255
            tiles = (frame, estimate, heat_overlay(frame, heat), mark_mask(frame, truth))
            title = "synthetic anomaly" if truth.any() else "normal"
            rows.append(SheetRow(tiles, title, (f"highest score {heat.max() / 255:.2f}",)))
        sheet = contact_sheet(
            rows,
            ("image", "restored", "heat map", "true mask"),
            f"Training step {trainer.step}",
            f"restored at time step {model.lambdas[-1]}",
            tile=160,
            scored=False,
        )
        path = self._folder / f"step-{trainer.step:07d}.png"
        write_picture(path, sheet)
        return path
