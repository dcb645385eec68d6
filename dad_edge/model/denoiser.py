"""Denoising sub-network ε_θ(x_t, t): a residual U-Net with time embedding and self-attention.

Shape suffixes: B rows, C channels, H and W pixels, N = H·W positions, E embedding width.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from dad_edge.config import DenoiserConfig, ScheduleConfig
from dad_edge.model.diffusion import alpha_bar_table


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the time step and a two-layer network over it."""

    frequencies: Tensor

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        half = channels // 2
        frequencies = torch.exp(-math.log(10000) / half * torch.arange(half))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.expand = nn.Linear(channels, width)
        self.project = nn.Linear(width, width)

    def forward(self, t_B: Tensor) -> Tensor:
        """(B,) time steps → (B,E)."""
        angles = t_B.to(self.frequencies.dtype)[:, None] * self.frequencies
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        projected: Tensor = self.project(F.silu(self.expand(waves)))
        return projected


class NormSiLU(nn.GroupNorm):
    """GroupNorm with SiLU behind it: one step, so that a runtime can make one pass of it."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class ResidualBlock(nn.Module):
    """Two normalised convolutions with the time embedding added between them."""

    def __init__(
        self, inputs: int, outputs: int, embedding: int, groups: int, scale: str = "same"
    ) -> None:
        super().__init__()
        self.scale = scale
        self.norm_in = NormSiLU(groups, inputs)
        self.conv_in = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.embed = nn.Linear(embedding, outputs)
        self.norm_out = NormSiLU(groups, outputs)
        self.conv_out = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        nn.init.zeros_(self.conv_out.weight)
        nn.init.zeros_(self.conv_out.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, shift_BC11: Tensor) -> Tensor:
        h = self.norm_in(x)
        if self.scale == "down":
            h, x = F.avg_pool2d(h, 2), F.avg_pool2d(x, 2)
        elif self.scale == "up":
            h, x = F.interpolate(h, scale_factor=2.0), F.interpolate(x, scale_factor=2.0)
        h = self.conv_in(h) + shift_BC11
        h = self.conv_out(self.norm_out(h))
        output: Tensor = self.skip(x) + h
        return output


class SelfAttention(nn.Module):
    """Multi-head self-attention over all positions of a feature map."""

    def __init__(self, channels: int, heads: int, groups: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.GroupNorm(groups, channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.project = nn.Conv1d(channels, channels, 1)
        nn.init.zeros_(self.project.weight)
        nn.init.zeros_(self.project.bias)  # type: ignore[arg-type]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        batch, channels, height, width = x_BCHW.shape
        x_BCN = x_BCHW.reshape(batch, channels, height * width)
        heads = self.qkv(self.norm(x_BCN)).reshape(
            batch, self.heads, 3, channels // self.heads, height * width
        )
        query, key, value = heads.transpose(-1, -2).unbind(2)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(-1, -2)
        out_BCN = x_BCN + self.project(mixed.reshape(batch, channels, height * width))
        out_BCHW: Tensor = out_BCN.reshape(batch, channels, height, width)
        return out_BCHW


class Stage(nn.Module):
    """Residual block, attention where the resolution asks for it, and a change of resolution."""

    def __init__(
        self, block: ResidualBlock, attention: SelfAttention | None, resample: ResidualBlock | None
    ) -> None:
        super().__init__()
        self.block = block
        self.attention = attention
        self.resample = resample

    def forward(self, x: Tensor, shifts: dict[str, Tensor], name: str) -> Tensor:
        x = self.block(x, shifts[f"{name}.block"])
        if self.attention is not None:
            x = self.attention(x)
        if self.resample is not None:
            x = self.resample(x, shifts[f"{name}.resample"])
        return x


def patch_conv(patch: int, inputs: int, outputs: int) -> nn.Conv2d:
    """(B,C,H,W) → one position a patch: 3×3 where a patch is a pixel, else over two patches."""
    if patch == 1:
        return nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Conv2d(inputs, outputs, 2 * patch, stride=patch, padding=patch // 2)


class Denoiser(nn.Module):
    """ε_θ: (B,3,S,S) noisy image and (B,) time step → (B,3,S,S) noise.

    Where the network predicts the image, ε̂ = (x_t - √ᾱ · x̂0) / √(1-ᾱ) follows from it (Eq. 2):
    few channels a patch can hold what an image is, but not the noise of every one of its pixels.
    """

    alpha_bar: Tensor

    def __init__(
        self, config: DenoiserConfig, image_size: int, schedule: ScheduleConfig | None = None
    ) -> None:
        """
        Args:
            config: layout.
            image_size: S.
            schedule: of the noise, which a network that predicts the image has to know; the
                paper's if None.
        """
        super().__init__()
        self.patch, self.predicts = config.patch, config.predicts
        table = torch.tensor(alpha_bar_table(schedule or ScheduleConfig()), dtype=torch.float32)
        self.register_buffer("alpha_bar", table, persistent=False)
        base, groups = config.base_channels, config.norm_groups
        width = 4 * base
        self.time = TimeEmbedding(base, width)
        self.stem = patch_conv(config.patch, 3, base)

        def block(inputs: int, outputs: int, scale: str = "same") -> ResidualBlock:
            return ResidualBlock(inputs, outputs, width, groups, scale)

        def attention(channels: int, side: int) -> SelfAttention | None:
            if side not in config.attention_resolutions:
                return None
            return SelfAttention(channels, config.heads, groups)

        channels, side = base, image_size // config.patch
        skips = [channels]
        last = len(config.channel_mults) - 1
        self.down = nn.ModuleList()
        for level, mult in enumerate(config.channel_mults):
            for _ in range(config.res_blocks):
                stage = Stage(block(channels, base * mult), attention(base * mult, side), None)
                self.down.append(stage)
                channels = base * mult
                skips.append(channels)
            if level != last:
                self.down.append(Stage(block(channels, channels, "down"), None, None))
                side //= 2
                skips.append(channels)

        self.middle = nn.ModuleList(
            [
                Stage(
                    block(channels, channels), SelfAttention(channels, config.heads, groups), None
                ),
                Stage(block(channels, channels), None, None),
            ]
        )

        self.up = nn.ModuleList()
        for level, mult in reversed(list(enumerate(config.channel_mults))):
            for index in range(config.res_blocks + 1):
                first = block(channels + skips.pop(), base * mult)
                channels = base * mult
                grows = level > 0 and index == config.res_blocks
                resample = block(channels, channels, "up") if grows else None
                self.up.append(Stage(first, attention(channels, side), resample))
            side *= 2

        self.norm = NormSiLU(groups, channels)
        self.head = nn.Conv2d(channels, 3 * config.patch**2, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)  # type: ignore[arg-type]

    def shifts(self, t_B: Tensor) -> dict[str, Tensor]:
        """What every residual block adds for these time steps, and how ε̂ follows from x̂0.

        Args:
            t_B: (B,) time steps.

        Returns:
            Block name → (B,C,1,1); if the network predicts the image, also the factors of x_t and
            of x̂0. For fixed λ they are constants of the exported graph.
        """
        activated = F.silu(self.time(t_B))
        shifts = {
            name: module.embed(activated)[:, :, None, None]
            for name, module in self.named_modules()
            if isinstance(module, ResidualBlock)
        }
        if self.predicts == "image":
            alpha_B111 = self.alpha_bar[t_B][:, None, None, None]
            shifts["of_noisy"] = (1 - alpha_B111).rsqrt()
            shifts["of_image"] = (alpha_B111 / (1 - alpha_B111)).sqrt()
        return shifts

    def forward(self, x_BCHW: Tensor, t_B: Tensor) -> Tensor:
        return self.predict(x_BCHW, self.shifts(t_B))

    def predict(self, x_BCHW: Tensor, shifts: dict[str, Tensor]) -> Tensor:
        """Noise from the image and the time steps' shifts."""
        h = self.stem(x_BCHW)
        skips = [h]
        for name, stage in _named(self.down, "down"):
            h = stage(h, shifts, name)
            skips.append(h)
        for name, stage in _named(self.middle, "middle"):
            h = stage(h, shifts, name)
        for name, stage in _named(self.up, "up"):
            h = stage(torch.cat([h, skips.pop()], dim=1), shifts, name)
        predicted: Tensor = self.head(self.norm(h))
        if self.patch > 1:
            predicted = F.pixel_shuffle(predicted, self.patch)
        if self.predicts == "noise":
            return predicted
        return shifts["of_noisy"] * x_BCHW - shifts["of_image"] * predicted


def _named(stages: nn.ModuleList, prefix: str) -> Sequence[tuple[str, nn.Module]]:
    return [(f"{prefix}.{index}", stage) for index, stage in enumerate(stages)]
