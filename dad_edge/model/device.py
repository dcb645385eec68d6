"""Where PyTorch computes."""

from __future__ import annotations

import torch

from dad_edge.errors import DeviceError


def choose_device(name: str) -> torch.device:
    """`auto`, `cpu` or `cuda` as a device.

    Raises:
        DeviceError: CUDA was asked for and is not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise DeviceError(
            "PyTorch finds no CUDA device.", "use --device cpu, or run 'dad-edge doctor'"
        )
    return torch.device(name)
