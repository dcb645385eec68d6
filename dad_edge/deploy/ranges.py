"""Activation ranges: the smallest and the largest value that goes into each convolution of a graph.

One pass over the images finds them; memory does not grow with the number of images, and their order
does not matter. `calibration/README.md` says why nothing is clipped, as other methods do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import ModelError
from dad_edge.runtime.cpu.engine_onnx import LeanEngine

if TYPE_CHECKING:
    import onnx


class Meter(Protocol):
    """Watches the values of one tensor."""

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in values of any shape."""


class MinMax:
    """The smallest and the largest value that a tensor had."""

    def __init__(self) -> None:
        self.low = math.inf
        self.high = -math.inf

    def add(self, values: NDArray[np.float32]) -> None:
        """Take in values of any shape.

        Raises:
            ModelError: one is not a finite number.
        """
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ModelError(
                "an activation is not a finite number.",
                "train or export the model again; its weights are damaged",
            )
        self.low, self.high = min(self.low, low), max(self.high, high)


M = TypeVar("M", bound=Meter)


class Observer(Generic[M]):
    """A graph on ONNX Runtime that watches what goes into its convolutions."""

    def __init__(self, path: Path, meter: Callable[[], M]) -> None:
        """
        Args:
            path: the graph.
            meter: makes what watches one tensor, such as `MinMax`.

        Raises:
            ModelError: it is not an ONNX graph, or ONNX Runtime refuses it.
        """
        import onnx

        model = onnx.load(path)
        self._outputs = [output.name for output in model.graph.output]
        self.meters = {name: meter() for name in sorted(conv_inputs(model))}
        """Name of a tensor → the meter that watches it."""
        inside = self.meters.keys() - {value.name for value in model.graph.input}
        model.graph.output.extend(
            onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
            for name in sorted(inside - set(self._outputs))
        )
        self._engine = LeanEngine(model)

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Watch, and give the graph's outputs."""
        values = self._engine.run(inputs)
        for name, meter in self.meters.items():
            meter.add(inputs[name] if name in inputs else values[name])
        return {name: values[name] for name in self._outputs}


def conv_inputs(model: onnx.ModelProto) -> list[str]:
    """Tensors that go into the convolutions of a graph, each once, in the graph's order."""
    return list(dict.fromkeys(n.input[0] for n in model.graph.node if n.op_type == "Conv"))
