"""The GroupNorms of a network in PyTorch through a kernel of our own, in channels-last layout.

PyTorch's own GroupNorm puts the channels apart first, and the next convolution puts them together
again: more than half of the time of the `paper` denoiser. Here they stay together, and SiLU comes
along. A pass reads its input twice and writes its output once.
"""

from __future__ import annotations

import ctypes
from functools import partial
from typing import TYPE_CHECKING

from dad_edge.errors import require
from dad_edge.kernels.compile import find_cubin
from dad_edge.runtime.gpu.driver import Device

if TYPE_CHECKING:
    from torch import Tensor, nn

THREADS = 512
"""Of a block, at most, where the channels allow it."""
MOST_CHANNELS, MOST_GROUPS, MOST_SUMS = 4096, 64, 2048
"""What the kernel has room for."""
MOST_PARTS, MOST_BLOCKS = 64, 256
STEPS = 4
"""Positions that a thread takes at least, where there are enough."""

_int, _address = ctypes.c_int, ctypes.c_void_p


class GroupNorms:
    """Takes the place of the GroupNorms of a network; the network is not the same afterwards.

    Those of channels that the kernel cannot read by fours, or of too many, stay PyTorch's.
    """

    def __init__(self, device: Device, network: nn.Module, element: str) -> None:
        """
        Args:
            device: where the network lies.
            network: on it, with weights of the type of `element`.
            element: `f32`, `f16` or `bf16`.

        Raises:
            DeviceError, MissingDependency: the kernel cannot be compiled or loaded.
        """
        torch = require("torch", "train", "run a checkpoint")
        from dad_edge.model.denoiser import NormSiLU

        self.stream = 0
        """Handle of the stream that the network runs on; to be set before it does."""
        self._torch, self._device = torch, device
        module = device.load(find_cubin("group_norm", device.arch, None))
        self._sums = device.function(module, f"norm_sums_{element}")
        self._apply = device.function(module, f"norm_apply_{element}")
        for norm in network.modules():
            if isinstance(norm, torch.nn.GroupNorm) and _fits(norm):
                norm.forward = partial(self._forward, norm, isinstance(norm, NormSiLU))

    def _forward(self, norm: nn.GroupNorm, with_silu: bool, x: Tensor) -> Tensor:
        """(B,C,...) → the same shape, channels last in memory."""
        x_BNC = x.flatten(2).transpose(1, 2).contiguous()
        rows, positions, channels = x_BNC.shape
        groups, quads = norm.num_groups, channels // 4
        together = max(1, THREADS // quads)
        threads, steps = quads * together, -(-positions // (together * STEPS))
        parts = min(steps, MOST_PARTS, MOST_SUMS // groups)
        blocks = min(steps, MOST_BLOCKS)
        kind = self._torch.float32
        sums = self._torch.empty((rows, parts, groups, 2), dtype=kind, device=x.device)
        y_BNC = self._torch.empty_like(x_BNC)
        sizes = (_int(positions), _int(channels), _int(groups))
        source, between = _address(x_BNC.data_ptr()), _address(sums.data_ptr())
        self._launch(self._sums, (parts, rows), threads, source, between, *sizes)
        self._launch(
            self._apply,
            (blocks, rows),
            threads,
            source,
            between,
            _address(norm.weight.data_ptr()),
            _address(norm.bias.data_ptr()),
            _address(y_BNC.data_ptr()),
            *sizes,
            _int(parts),
            ctypes.c_float(norm.eps),
            _int(with_silu),
        )
        y: Tensor = y_BNC.transpose(1, 2).unflatten(2, x.shape[2:])
        return y

    def _launch(self, kernel: object, grid: tuple[int, int], threads: int, *values: object) -> None:
        self._device.launch(kernel, grid, threads, self.stream, values)


def _fits(norm: nn.GroupNorm) -> bool:
    few = norm.num_channels <= MOST_CHANNELS and norm.num_groups <= MOST_GROUPS
    return few and norm.num_channels % 4 == 0
