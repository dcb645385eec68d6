"""Autoencoder of the ablation DRAEM+, which takes the denoiser's place (Table 3)."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dad_edge.model.segmenter import conv_pair

MULTS = (1, 2, 4, 8, 8)


class Autoencoder(nn.Module):
    """(B,3,S,S) image → (B,3,S,S) reconstruction, through a bottleneck without skip connections."""

    def __init__(self, base_width: int) -> None:
        super().__init__()
        widths = [base_width * mult for mult in MULTS]
        self.encoder = nn.ModuleList(
            conv_pair(inputs, outputs)
            for inputs, outputs in zip([3, *widths[:-1]], widths, strict=True)
        )
        back = widths[::-1]
        self.decoder = nn.ModuleList(
            conv_pair(inputs, outputs) for inputs, outputs in pairwise(back)
        )
        self.head = nn.Conv2d(base_width, 3, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        h = image
        for level, encode in enumerate(self.encoder):
            h = encode(h if level == 0 else F.max_pool2d(h, 2))
        for decode in self.decoder:
            h = decode(F.interpolate(h, scale_factor=2.0, mode="bilinear", align_corners=True))
        reconstruction: Tensor = self.head(h)
        return reconstruction
