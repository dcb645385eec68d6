"""Arithmetic and memory traffic of one frame in each network of a case."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.config import ModelConfig
from dad_edge.errors import require
from dad_edge.graphs.cost import layer_costs

ITEMSIZE = {"fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "int8": 1}


@dataclass(frozen=True, kw_only=True, slots=True)
class Cost:
    """What one call of a network costs."""

    gflop: float
    """Two operations for each multiply-add of convolutions and matrix products."""
    weights: int
    """Elements of weights, read once a call."""
    activations: int
    """Elements that those layers read and write when nothing stays in a cache between two."""
    layers: int
    """Number of those layers."""

    def gigabytes(self, precision: str) -> float:
        """Gigabytes moved, with all elements in one precision."""
        return ITEMSIZE[precision] * (self.weights + self.activations) / 1e9


Costs = dict[str, Cost]
"""Stage → cost; stages without a network are left out."""


def bundle_cost(bundle: Bundle, batch: int = 1) -> Costs:
    """Costs counted from a bundle's graphs; empty where these hide their shapes."""
    levels = len(bundle.model.lambdas)
    masks = 1 if bundle.model.fusion == "norm_guided" else levels
    costs = {}
    try:
        for stage, graph, rows in (("denoise", DENOISER, levels), ("segment", SEGMENTER, masks)):
            layers = layer_costs(bundle.path / graph, rows * batch)
            costs[stage] = Cost(
                gflop=sum(layer.flop for layer in layers) / 1e9,
                weights=sum(layer.weights for layer in layers),
                activations=sum(layer.activations for layer in layers),
                layers=sum(layer.flop > 0 for layer in layers),
            )
    except ValueError:
        return {}
    return costs


def model_cost(model: ModelConfig, batch: int = 1) -> Costs:
    """Costs counted in PyTorch on tensors without data, for any method and size.

    Raises:
        MissingDependency: PyTorch is not installed.
    """
    torch = require("torch", "train", "make an untrained network")
    from dad_edge.model.ablations import DirectDetector, build_detector

    with torch.device("meta"), torch.no_grad():
        detector = build_detector(model).eval()
        levels = 1 if isinstance(detector, DirectDetector) else len(model.lambdas)
        masks = 1 if model.fusion == "norm_guided" else levels
        side = model.image_size
        counted = {
            "denoise": _count(detector.denoise, torch.zeros(levels * batch, 3, side, side)),
            "segment": _count(detector.score, torch.zeros(masks * batch, 6, side, side)),
        }
    return {stage: cost for stage, cost in counted.items() if cost.gflop}


def _count(network: Any, value: Any) -> Cost:
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils.flop_counter import flop_registry

    flop, weights, activations, layers = 0, 0, 0, 0

    class Counter(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            nonlocal flop, weights, activations, layers
            result = func(*args, **(kwargs or {}))
            count = flop_registry.get(func._overloadpacket)
            if count is not None:
                layers += 1
                flop += count(*args, **(kwargs or {}), out_val=result)
                first = result[0] if isinstance(result, tuple) else result
                for tensor in (*args, first):
                    if isinstance(tensor, torch.nn.Parameter):
                        weights += tensor.numel()
                    elif isinstance(tensor, torch.Tensor):
                        activations += tensor.numel()
            return result

    with Counter():  # type: ignore[no-untyped-call]
        network(value)
    return Cost(gflop=flop / 1e9, weights=weights, activations=activations, layers=layers)


def total(costs: Costs) -> Cost | None:
    """All networks together, or None where nothing was counted."""
    if not costs:
        return None
    return Cost(
        gflop=sum(cost.gflop for cost in costs.values()),
        weights=sum(cost.weights for cost in costs.values()),
        activations=sum(cost.activations for cost in costs.values()),
        layers=sum(cost.layers for cost in costs.values()),
    )
