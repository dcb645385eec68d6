"""How good the networks are on parts that do not teach them, without any real defect."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from dad_edge.data.dataset import TrainingSet
from dad_edge.model.losses import mask_loss

if TYPE_CHECKING:
    from dad_edge.learn.trainer import Trainer

MOST_VIEWS = 24
"""Views of kept-out parts that are measured on; each costs two inspections."""
ROWS = 8
"""Images that are inspected at once."""


class Figures(NamedTuple):
    """Of the weight average on parts kept out and on synthetic anomalies drawn on them."""

    auroc: float
    """Share of pairs in which the synthetic anomaly scores higher than the good part."""
    loss: float
    """Loss of the anomaly mask (Eq. 7)."""


class Check:
    """The same images at every measurement, so that figures of a run can be compared."""

    def __init__(self, images: TrainingSet) -> None:
        self._batch = images.kept_out(MOST_VIEWS)

    def measure(self, trainer: Trainer) -> Figures | None:
        """Figures of the weight average; None where no part was kept out."""
        if self._batch is None:
            return None
        detector, model = trainer.average.eval(), trainer.recipe.model
        image, truth = trainer.tensors(self._batch)
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn((len(model.lambdas), 1, *image.shape[1:]), generator=generator)
        masks = []
        with torch.no_grad():
            for rows in image.split(ROWS):
                drawn = noise.expand(-1, len(rows), -1, -1, -1).to(image.device)
                masks.append(detector(rows, drawn)[0])
        mask = torch.cat(masks).float()
        scores = mask.flatten(1).topk(model.top_k).values.mean(dim=1).cpu().numpy()
        normal, synthetic = np.split(scores, 2)
        logits = torch.logit(mask, eps=1e-6)
        loss = mask_loss(logits, truth, trainer.recipe.train.focal_weight)
        return Figures(share_above(synthetic, normal), float(loss))


def share_above(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Share of pairs in which a value of the first is the larger; a tie counts half."""
    apart = one[:, None] - other
    return float((apart > 0).mean() + (apart == 0).mean() / 2)
