"""The processes of one training run: a single one, or those that `torchrun` started."""

from __future__ import annotations

import importlib
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from dad_edge.errors import UsageError

_LET_GO_S = 0.2
"""Pause before a group ends. A thread of gloo takes Python's lock once more to let go of the last
message, while the end of the group has that lock and waits for the thread: neither ever goes on."""


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among those that train together."""

    device: torch.device
    rank: int = 0
    count: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the one that writes files and talks to people."""
        return self.rank == 0

    def rows(self, batch_size: int) -> slice:
        """Rows of the global batch that belong to this process: every `count`-th.

        Raises:
            UsageError: the processes would not all get as many normal as synthetic images.
        """
        if batch_size % (2 * self.count):
            raise UsageError(
                f"batch_size {batch_size} cannot be shared by {self.count} processes, half normal "
                "and half synthetic in each.",
                f"set batch_size in the recipe to a multiple of {2 * self.count}",
            )
        return slice(self.rank, None, self.count)

    def largest(self, values: Sequence[float]) -> list[float]:
        """The largest of each value over all processes, so that all of them decide the same."""
        return self._reduce(values, dist.ReduceOp.MAX)

    def mean(self, values: Sequence[float]) -> list[float]:
        """The mean of each value over all processes."""
        return [total / self.count for total in self._reduce(values, dist.ReduceOp.SUM)]

    def _reduce(self, values: Sequence[float], operation: dist.ReduceOp.RedOpType) -> list[float]:
        if self.count == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(shared, operation)
        return [float(value) for value in shared.tolist()]

    def share(self, module: nn.Module) -> nn.Module:
        """The module with gradients and batch statistics over all processes."""
        if self.count == 1:
            return module
        if self.device.type == "cuda":
            module = nn.SyncBatchNorm.convert_sync_batchnorm(module)
        else:
            _synchronise(module)
        return DistributedDataParallel(module)


@contextmanager
def processes_of(device: torch.device) -> Iterator[Processes]:
    """Join the processes of this run for as long as the context lasts.

    Args:
        device: where to compute; with several processes on GPUs, each takes its own.
    """
    if "WORLD_SIZE" not in os.environ:
        yield Processes(device)
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    # Imported once a group exists, this module keeps it for ever, as the default of arguments; the
    # threads of a group that outlives its end abort the process now and then as it exits.
    importlib.import_module("torch.distributed.nn.functional")
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(device, dist.get_rank(), dist.get_world_size())
    finally:
        time.sleep(_LET_GO_S)
        dist.destroy_process_group()


class _SumOverProcesses(torch.autograd.Function):
    """Sum of a tensor over all processes; each one's gradient is the sum of all gradients."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(value: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(value)  # type: ignore[no-untyped-call]
    return total


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm with the statistics of all processes; PyTorch's own works on GPUs only."""

    def forward(self, x_BCHW: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x_BCHW)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        count = dist.get_world_size() * x_BCHW.numel() // x_BCHW.shape[1]
        mean_C = _sum_over_processes(x_BCHW.sum(dim=(0, 2, 3))) / count
        centred = x_BCHW - mean_C[:, None, None]
        variance_C = _sum_over_processes(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            momentum = self.momentum or 0.0
            self.running_mean.lerp_(mean_C, momentum)
            self.running_var.lerp_(variance_C * count / (count - 1), momentum)
        scale_C = self.weight * torch.rsqrt(variance_C + self.eps)
        normal: Tensor = centred * scale_C[:, None, None] + self.bias[:, None, None]
        return normal


def _synchronise(module: nn.Module) -> None:
    """Turn every BatchNorm of a module into a shared one, in place."""
    for layer in module.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SharedBatchNorm
