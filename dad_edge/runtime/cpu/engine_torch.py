"""Engine on PyTorch: a training run's networks behind the same seam as every other backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import require
from dad_edge.image.framing import ignore_in
from dad_edge.machine.memory import keep_freed_memory
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Injected

if TYPE_CHECKING:
    from torch import Tensor

    from dad_edge.model.ablations import AnyDetector


class TorchEngine:
    """One network on PyTorch in FP32; tensors come in and go out as NumPy arrays."""

    def __init__(
        self, forward: Callable[[Tensor], Tensor], source: str, target: str, device: str = "cpu"
    ) -> None:
        """
        Args:
            forward: the network, its weights on `device`.
            source: name of the tensor that goes in.
            target: name of the tensor that comes out.
            device: `cpu`, or `cuda` with TF32 off in convolutions.
        """
        self._torch = require("torch", "train", "run a checkpoint")
        self._forward = forward
        self._source, self._target = source, target
        self._device = device
        self.name = f"PyTorch {self._torch.__version__} {device} fp32"
        if device == "cpu":
            self.name += f", {self._torch.get_num_threads()} threads"

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        torch = self._torch
        value = torch.from_numpy(np.ascontiguousarray(inputs[self._source])).to(self._device)
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            result = self._forward(value)
        return {self._target: result.cpu().numpy()}


class DirectOps(NumpyOps):
    """The steps around an ablation that puts no noise on the image."""

    def inject(self, frames: Sequence[NDArray[np.uint8]], counter: int) -> Injected:
        injected = super().inject(frames, counter)
        return injected._replace(x_t=injected.image)

    def restore(
        self,
        x_t: NDArray[np.float32],
        noise: NDArray[np.float32],
        image: NDArray[np.float32],
    ) -> NDArray[np.float32]:
        """The network's answer stands in the place of x̂0."""
        return np.concatenate([image, noise], axis=1)


def torch_engines(detector: AnyDetector, device: str = "cpu") -> tuple[TorchEngine, TorchEngine]:
    """Both networks of a detector: `x_t` → `noise` at its λ, and `pair` → `mask`.

    Args:
        detector: in evaluation mode; it moves to `device`.
        device: `cpu` or `cuda`.
    """
    detector.to(device)
    if device == "cpu":
        keep_freed_memory()
    return (
        TorchEngine(detector.denoise, "x_t", "noise", device),
        TorchEngine(detector.score, "pair", "mask", device),
    )


def torch_inspector(
    detector: AnyDetector, *, seed: int = 0, threshold: float = 0.5, device: str = "cpu"
) -> Inspector:
    """An inspector for a detector in memory; arguments as in `open_torch_inspector`."""
    from dad_edge.model.ablations import DirectDetector

    model, kind = detector.config, NumpyOps
    if isinstance(detector, DirectDetector):
        model, kind = replace(model, lambdas=model.lambdas[:1]), DirectOps
    table = alpha_bar_table(model.schedule)
    ops = kind(model, [float(table[step]) for step in model.lambdas], seed)
    return HostInspector(ops, *torch_engines(detector, device), threshold)


def open_torch_inspector(
    run_folder: Path, *, seed: int = 0, threshold: float = 0.5, device: str = "cpu"
) -> Inspector:
    """An inspector for the checkpoint of a training run.

    Args:
        run_folder: folder that `dad-edge train` made.
        seed: key of the noise.
        threshold: scores above it are defects; a run has none of its own.
        device: `cpu` or `cuda`.

    Raises:
        MissingDependency: PyTorch is not installed.
        ModelError: the run is incomplete, damaged, or its files do not fit together.
    """
    require("torch", "train", "run a checkpoint")
    from dad_edge.model.checkpoint import load_detector

    detector, _ = load_detector(run_folder)
    inspector = torch_inspector(detector, seed=seed, threshold=threshold, device=device)
    inspector.ignore = ignore_in(run_folder)
    return inspector
