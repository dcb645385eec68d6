"""What the layers of a plan read and write, from the list of them that its builder logs.

On a GPU these networks wait for memory more than for arithmetic, so that the bytes that the layers
of a plan move tell which of two plans of a network is faster before either has run.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

MOVES_NOTHING = 1000
"""Bytes below which a layer only works out shapes."""

_LAYER = re.compile(r"Name: ([^,]+), LayerType: (\w+), Inputs: (.*)")
_TENSOR = re.compile(r"Dimensions: \[([^\]]*)\].*?Datatype: (\w+)")
_ELEMENT_BYTES = {
    **dict.fromkeys(("Bool", "FP8", "Int8", "UInt8"), 1),
    **dict.fromkeys(("BFloat16", "Half"), 2),
    **dict.fromkeys(("Float", "Int32"), 4),
    "Int64": 8,
}
_SOFTMAX = re.compile(r"Exp\w*Sum")
"""In the name of a kernel that normalises the weights of an attention by itself."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineLayer:
    """One layer of a plan, which is one kernel."""

    name: str
    kind: str
    """As the builder calls it: `correlation` is a convolution, `kgen` a kernel that it wrote."""
    activation_bytes: int
    """Of the tensors that it reads and writes."""
    float_bytes: int
    """Those of them that are in FP32."""
    weight_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What all layers of a plan move in one pass."""

    activation_bytes: int
    """Of tensors that layers hand to each other."""
    float_bytes: int
    """Those of them that are in FP32."""
    weight_bytes: int
    kernels: int
    """Layers that move more than `MOVES_NOTHING`."""
    unfused_attention: int
    """Attentions whose weights are written to memory."""

    @property
    def all_bytes(self) -> int:
        """Everything that goes through memory, but for what stays in a cache."""
        return self.activation_bytes + self.weight_bytes


def read_layers(text: str, rows: int) -> list[EngineLayer]:
    """The layers of a plan from its builder's list of them.

    Args:
        text: the message with the list.
        rows: size of the dimensions that the plan leaves open.

    Returns:
        None of them where the list is written in another way than that of TensorRT-RTX 1.7.
    """
    try:
        return [_layer(name, kind, rest, rows) for name, kind, rest in _LAYER.findall(text)]
    except KeyError:  # a type of another name: any number made of it would be wrong
        return []


def traffic_of(layers: Sequence[EngineLayer]) -> Traffic:
    """What layers move together."""
    moving = [layer for layer in layers if layer.activation_bytes > MOVES_NOTHING]
    return Traffic(
        activation_bytes=sum(layer.activation_bytes for layer in layers),
        float_bytes=sum(layer.float_bytes for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        kernels=len(moving),
        unfused_attention=sum(bool(_SOFTMAX.search(layer.name)) for layer in moving),
    )


def _layer(name: str, kind: str, rest: str, rows: int) -> EngineLayer:
    """A layer from its line; it names its inputs, its constants, its outputs, and other things."""
    inputs, _, behind = rest.partition(", Constants: ")
    constants, _, outputs = behind.rpartition(", Outputs: ")
    tensors = [*_tensors(inputs, rows), *_tensors(outputs, rows)]
    return EngineLayer(
        name=name,
        kind=kind,
        activation_bytes=sum(size for size, _ in tensors),
        float_bytes=sum(size for size, element in tensors if element == "Float"),
        weight_bytes=sum(size for size, _ in _tensors(constants, rows)),
    )


def _tensors(text: str, rows: int) -> list[tuple[int, str]]:
    """Bytes and type of every tensor in a part of a line."""
    return [
        (_elements(sides, rows) * _ELEMENT_BYTES[element], element)
        for sides, element in _TENSOR.findall(text)
    ]


def _elements(sides: str, rows: int) -> int:
    numbers = [int(side) for side in sides.split(",") if side.strip()]
    return math.prod(number if number >= 0 else rows for number in numbers)
