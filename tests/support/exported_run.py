"""A training run with random weights and the bundle exported from it, made once a test session."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from tiny import TINY
from torch.nn import functional

from dad_edge.config import ModelConfig, Recipe
from dad_edge.deploy.export import Parity, export
from dad_edge.model.checkpoint import WEIGHTS, write_recipe, write_tensors
from dad_edge.model.detector import Detector

GUIDED = replace(TINY, fusion="norm_guided", lambdas=(200, 400))
FUSIONS = {"average": TINY, "norm_guided": GUIDED}

_FOLDER = tempfile.TemporaryDirectory()


def make_run(folder: Path, model: ModelConfig, seed: int = 0) -> Detector:
    """A run whose score maps depend on the image, as they do after training.

    Weights are random everywhere, also where training starts from zero, the statistics of the
    normalizations are those of images, and the head is steep. With other statistics the deep
    layers are constant, and every backend agrees with every other.
    """
    torch.manual_seed(seed)
    detector = Detector(model).train()
    with torch.no_grad():
        for weights in detector.parameters():
            weights.add_(0.05 * torch.randn(weights.shape))
        for _ in range(40):
            coarse = torch.rand(8, 3, 6, 6)
            image = functional.interpolate(coarse, size=model.image_size, mode="bilinear")
            detector.segment(image, image + 0.3 * torch.randn(image.shape))
        detector.segmenter.head.weight.mul_(4)
    write_recipe(folder, Recipe(model=model))
    write_tensors(folder / WEIGHTS, detector.eval().state_dict(), {})
    return detector


@cache
def exported_run(fusion: str) -> tuple[Path, Detector, Parity]:
    """Bundle, detector and parity for one of `FUSIONS`; not to be written into."""
    folder = Path(_FOLDER.name) / fusion
    detector = make_run(folder / "run", FUSIONS[fusion])
    _, parity = export(folder / "run", folder / "bundle", class_name="plate")
    return folder / "bundle", detector, parity
