"""Writes `tests/support/authors_32px.npz`: numbers that this project's networks have to reproduce.

    python tests/support/make_golden.py

Weights in the layout and under the names of the authors' training code are drawn from NumPy's
`RandomState`, whose stream is frozen, so that they need no file. The forward pass below runs on
those names with plain PyTorch functions and shares no code with `dad_edge`. The file holds image
(2,3,32,32) in [0,1], t, eps, x_t, pred_eps, pred_x0 (not clamped), mask (of the clamped x̂0), and
for norm guidance from t = 200 and 400: eps_noisier, noisier_x0, guided_x0, guided_mask.
"""

from __future__ import annotations

import math
from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

GOLDEN = Path(__file__).parent / "authors_32px.npz"
Weights = dict[str, Tensor]

SIDE, BASE, MULTS, HEADS, GROUPS, WIDTH = 32, 32, (1, 2), 4, 32, 2
DOWN = ((32, 32, ""), (32, 32, "down"), (32, 64, "attention"))
"""Inputs, outputs and kind of each stage on the way down; one residual block a level."""
UP = ((128, 64, "attention"), (96, 64, "attention up"), (96, 32, ""), (64, 32, ""))
ENCODER = (1, 2, 4, 8, 8, 8)
DECODER = {"_b": (8, 8, 8), "1": (8, 4, 8), "2": (4, 2, 4), "3": (2, 1, 2), "4": (1, 1, 1)}
"""Level → multiples of the base width: from below, own, from the side."""
ARGS = {
    "T": 1000,
    "beta_schedule": "linear",
    "img_size": [SIDE, SIDE],
    "base_channels": BASE,
    "attention_resolutions": "16",
    "num_heads": HEADS,
    "num_head_channels": -1,
    "channels": 3,
    "condition_w": 1,
    "eval_normal_t": 200,
    "eval_noisier_t": 400,
    "noise_fn": "gauss",
    "dropout": 0,
    "channel_mults": "",
}


class Draw:
    """Named random layers; `gain` scales their weights."""

    def __init__(self, seed: int, gain: float) -> None:
        self.gain = gain
        self.random = np.random.RandomState(seed)
        self.weights: Weights = {}

    def layer(self, name: str, *shape: int) -> None:
        fan_in = math.prod(shape[1:])
        self._put(
            f"{name}.weight", self.gain * self.random.standard_normal(shape) / math.sqrt(fan_in)
        )
        self._put(f"{name}.bias", 0.1 * self.random.standard_normal(shape[0]))

    def norm(self, name: str, channels: int, running: bool = False) -> None:
        self._put(f"{name}.weight", 1 + 0.1 * self.random.standard_normal(channels))
        self._put(f"{name}.bias", 0.1 * self.random.standard_normal(channels))
        if running:
            self._put(f"{name}.running_mean", 0.1 * self.random.standard_normal(channels))
            self._put(f"{name}.running_var", 0.5 + self.random.random_sample(channels))
            self.weights[f"{name}.num_batches_tracked"] = torch.tensor(1)

    def _put(self, name: str, values: np.ndarray) -> None:
        self.weights[name] = torch.from_numpy(values.astype(np.float32))

    def block(self, name: str, inputs: int, outputs: int) -> None:
        self.norm(f"{name}.in_layers.0", inputs)
        self.layer(f"{name}.in_layers.2", outputs, inputs, 3, 3)
        self.layer(f"{name}.embed_layers.1", outputs, 4 * BASE)
        self.norm(f"{name}.out_layers.0", outputs)
        self.layer(f"{name}.out_layers.3", outputs, outputs, 3, 3)
        if inputs != outputs:
            self.layer(f"{name}.skip_connection", outputs, inputs, 1, 1)

    def attention(self, name: str, channels: int) -> None:
        self.norm(f"{name}.norm", channels)
        self.layer(f"{name}.to_qkv", 3 * channels, channels, 1)
        self.layer(f"{name}.proj_out", channels, channels, 1)

    def conv_norm(self, name: str, first: int, inputs: int, outputs: int) -> None:
        self.layer(f"{name}.{first}", outputs, inputs, 3, 3)
        self.norm(f"{name}.{first + 1}", outputs, running=True)


def unet_weights() -> Weights:
    """Random weights under the names of the authors' U-Net."""
    draw = Draw(1, 1.0)
    draw.layer("time_embedding.1", 4 * BASE, BASE)
    draw.layer("time_embedding.3", 4 * BASE, 4 * BASE)
    draw.layer("down.0.0", BASE, 3, 3, 3)
    for stage, (inputs, outputs, kind) in enumerate(DOWN, start=1):
        draw.block(f"down.{stage}.0", inputs, outputs)
        if kind == "attention":
            draw.attention(f"down.{stage}.1", outputs)
    widest = BASE * MULTS[-1]
    draw.block("middle.0", widest, widest)
    draw.attention("middle.1", widest)
    draw.block("middle.2", widest, widest)
    for stage, (inputs, outputs, kind) in enumerate(UP):
        draw.block(f"up.{stage}.0", inputs, outputs)
        if "attention" in kind:
            draw.attention(f"up.{stage}.1", outputs)
        if "up" in kind:
            draw.block(f"up.{stage}.2", outputs, outputs)
    draw.norm("out.0", BASE)
    draw.layer("out.2", 3, BASE, 3, 3)
    return draw.weights


def segmenter_weights() -> Weights:
    """Random weights under the names of the authors' segmentation network."""
    draw = Draw(2, 2.0)
    inputs = 6
    for level, mult in enumerate(ENCODER, start=1):
        name = f"encoder_segment.block{level}"
        draw.conv_norm(name, 0, inputs, mult * WIDTH)
        draw.conv_norm(name, 3, mult * WIDTH, mult * WIDTH)
        inputs = mult * WIDTH
    for level, mults in DECODER.items():
        below, own, side = (mult * WIDTH for mult in mults)
        draw.conv_norm(f"decoder_segment.up{level}", 1, below, own)
        draw.conv_norm(f"decoder_segment.db{level}", 0, own + side, own)
        draw.conv_norm(f"decoder_segment.db{level}", 3, own, own)
    draw.layer("decoder_segment.fin_out.0", 1, WIDTH, 3, 3)
    return draw.weights


def write_checkpoint(path: Path) -> None:
    """A checkpoint as the authors' training writes it, settings in a `defaultdict(str)`."""
    args: defaultdict[str, object] = defaultdict(str)
    args.update(ARGS)
    content = {
        "n_epoch": 3,
        "unet_model_state_dict": unet_weights(),
        "seg_model_state_dict": segmenter_weights(),
        "args": args,
    }
    torch.save(content, path)


def group_norm(w: Weights, name: str, x: Tensor) -> Tensor:
    return F.group_norm(x, GROUPS, w[f"{name}.weight"], w[f"{name}.bias"])


def conv(w: Weights, name: str, x: Tensor) -> Tensor:
    weight = w[f"{name}.weight"]
    return F.conv2d(x, weight, w[f"{name}.bias"], padding=weight.shape[-1] // 2)


def linear(w: Weights, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]


def halve(x: Tensor) -> Tensor:
    rows, channels, height, width = x.shape
    return x.reshape(rows, channels, height // 2, 2, width // 2, 2).mean(dim=(3, 5))


def double(x: Tensor) -> Tensor:
    return x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)


def block(w: Weights, name: str, x: Tensor, time: Tensor, scale: str = "") -> Tensor:
    h = F.silu(group_norm(w, f"{name}.in_layers.0", x))
    if scale:
        change = {"down": halve, "up": double}[scale]
        h, x = change(h), change(x)
    h = conv(w, f"{name}.in_layers.2", h)
    h = h + linear(w, f"{name}.embed_layers.1", F.silu(time))[:, :, None, None]
    h = conv(w, f"{name}.out_layers.3", F.silu(group_norm(w, f"{name}.out_layers.0", h)))
    if f"{name}.skip_connection.weight" in w:
        x = conv(w, f"{name}.skip_connection", x)
    return x + h


def attention(w: Weights, name: str, x: Tensor) -> Tensor:
    """Each head owns a run of query, key and value channels."""
    rows, channels = x.shape[:2]
    flat = x.reshape(rows, channels, -1)
    qkv = w[f"{name}.to_qkv.weight"][:, :, 0] @ group_norm(w, f"{name}.norm", flat)
    qkv = qkv + w[f"{name}.to_qkv.bias"][:, None]
    size = channels // HEADS
    mixed = []
    for head in qkv.split(3 * size, dim=1):
        query, key, value = head.split(size, dim=1)
        share = torch.softmax(query.transpose(1, 2) @ key / math.sqrt(size), dim=-1)
        mixed.append(value @ share.transpose(1, 2))
    out = w[f"{name}.proj_out.weight"][:, :, 0] @ torch.cat(mixed, dim=1)
    out = flat + out + w[f"{name}.proj_out.bias"][:, None]
    return out.reshape(x.shape)


def unet(w: Weights, x: Tensor, t: Tensor) -> Tensor:
    """ε̂ of (2,3,32,32) at the time steps t."""
    rates = 10000 ** (-torch.arange(BASE // 2) / (BASE // 2))
    angles = t[:, None] * rates
    time = linear(w, "time_embedding.1", torch.cat([torch.sin(angles), torch.cos(angles)], dim=1))
    time = linear(w, "time_embedding.3", F.silu(time))
    h = conv(w, "down.0.0", x)
    skips = [h]
    for stage, (_, _, kind) in enumerate(DOWN, start=1):
        h = block(w, f"down.{stage}.0", h, time, "down" if kind == "down" else "")
        if kind == "attention":
            h = attention(w, f"down.{stage}.1", h)
        skips.append(h)
    h = attention(w, "middle.1", block(w, "middle.0", h, time))
    h = block(w, "middle.2", h, time)
    for stage, (_, _, kind) in enumerate(UP):
        h = block(w, f"up.{stage}.0", torch.cat([h, skips.pop()], dim=1), time)
        if "attention" in kind:
            h = attention(w, f"up.{stage}.1", h)
        if "up" in kind:
            h = block(w, f"up.{stage}.2", h, time, "up")
    return conv(w, "out.2", F.silu(group_norm(w, "out.0", h)))


def conv_norm(w: Weights, name: str, first: int, x: Tensor) -> Tensor:
    h = conv(w, f"{name}.{first}", x)
    norm = f"{name}.{first + 1}"
    mean, var, scale, shift = (
        w[f"{norm}.{kind}"][:, None, None]
        for kind in ("running_mean", "running_var", "weight", "bias")
    )
    return torch.relu((h - mean) / torch.sqrt(var + 1e-5) * scale + shift)


def pair(w: Weights, name: str, x: Tensor) -> Tensor:
    return conv_norm(w, name, 3, conv_norm(w, name, 0, x))


def mask_of(w: Weights, image: Tensor, restored: Tensor) -> Tensor:
    """Mask (2,1,32,32) of the image beside x̂0."""
    h, skips = torch.cat([image, restored], dim=1), []
    for level in range(1, len(ENCODER) + 1):
        h = pair(w, f"encoder_segment.block{level}", h if level == 1 else F.max_pool2d(h, 2))
        skips.append(h)
    skips.pop()
    for level in DECODER:
        wide = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=True)
        h = conv_norm(w, f"decoder_segment.up{level}", 1, wide)
        h = pair(w, f"decoder_segment.db{level}", torch.cat([h, skips.pop()], dim=1))
    return torch.sigmoid(conv(w, "decoder_segment.fin_out.0", h))


def golden() -> dict[str, Tensor]:
    """Every array of the file."""
    u, s = unet_weights(), segmenter_weights()
    random = np.random.RandomState(3)
    shape = (2, 3, SIDE, SIDE)
    image = torch.from_numpy(random.random_sample(shape).astype(np.float32))
    eps, eps_noisier = (
        torch.from_numpy(random.standard_normal(shape).astype(np.float32)) for _ in range(2)
    )
    betas = np.linspace(1e-4, 2e-2, 1000)
    alpha_bar = torch.from_numpy(np.exp(np.log1p(-betas).cumsum()).astype(np.float32))

    def noisy(t: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a = alpha_bar[t][:, None, None, None]
        return a.sqrt() * image + (1 - a).sqrt() * noise, a.sqrt(), (1 - a).sqrt()

    t = torch.tensor([100, 300])
    x_t, signal, spread = noisy(t, eps)
    pred_eps = unet(u, x_t, t)
    pred_x0 = (x_t - spread * pred_eps) / signal

    t_m = torch.tensor([400, 400])
    x_m, signal_m, spread_m = noisy(t_m, eps_noisier)
    noisier_x0 = ((x_m - spread_m * unet(u, x_m, t_m)) / signal_m).clamp(-1, 1)
    t_n = torch.tensor([200, 200])
    x_n, signal_n, spread_n = noisy(t_n, eps)
    eps_n = unet(u, x_n, t_n)
    guide = signal_n * noisier_x0 + spread_n * eps_n
    guided_eps = eps_n - spread_n * (guide - x_n)
    guided_x0 = ((x_n - spread_n * guided_eps) / signal_n).clamp(-1, 1)
    return {
        "image": image,
        "t": t,
        "eps": eps,
        "x_t": x_t,
        "pred_eps": pred_eps,
        "pred_x0": pred_x0,
        "mask": mask_of(s, image, pred_x0.clamp(-1, 1)),
        "eps_noisier": eps_noisier,
        "noisier_x0": noisier_x0,
        "guided_x0": guided_x0,
        "guided_mask": mask_of(s, image, guided_x0),
    }


if __name__ == "__main__":
    np.savez_compressed(GOLDEN, **{name: value.numpy() for name, value in golden().items()})
