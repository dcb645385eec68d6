"""Rules that every graph must keep before it is written: what runtimes reject or run badly."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx

QUANTIZE, DEQUANTIZE = "QuantizeLinear", "DequantizeLinear"
FUSED = frozenset({"Relu", "MaxPool"})
"""Operators that INT8 engines fuse into the convolution before them, or run on INT8."""
IDLE = frozenset({"Cast", "Identity"})
"""Operators that compute nothing but keep a convolution from being fused with what follows."""


def lint(model: onnx.ModelProto) -> list[str]:
    """What is wrong with a graph, in words; an empty list if nothing is."""
    return [*_dead_parts(model), *_bad_qdq(model), *_float_islands(model)]


def _dead_parts(model: onnx.ModelProto) -> Iterator[str]:
    """Nodes that reach no output, constants that nothing reads."""
    needed = {value.name for value in model.graph.output}
    for node in reversed(model.graph.node):
        if needed.isdisjoint(node.output):
            yield f"{node.name or node.output[0]}: {node.op_type} that reaches no output"
        else:
            needed.update(node.input)
    for weight in model.graph.initializer:
        if weight.name not in needed:
            yield f"{weight.name}: a constant that nothing reads"


def _bad_qdq(model: onnx.ModelProto) -> Iterator[str]:
    """Q/DQ nodes that TensorRT would reject or run badly."""
    from onnx import numpy_helper

    constants = {w.name: w for w in model.graph.initializer}
    makers = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type not in (QUANTIZE, DEQUANTIZE):
            continue
        source, scale = node.input[0], constants.get(node.input[1])
        zero = constants.get(node.input[2]) if len(node.input) > 2 else None
        maker = makers.get(source)
        if zero is None or numpy_helper.to_array(zero).dtype != np.int8:
            yield f"{node.name}: no constant INT8 zero point"
        elif np.any(numpy_helper.to_array(zero)):
            yield f"{node.name}: zero point is not 0"
        if scale is None:
            yield f"{node.name}: scale is not a constant"
            continue
        scales = numpy_helper.to_array(scale)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        if not (np.isfinite(scales).all() and (scales > 0).all()):
            yield f"{node.name}: scale is not a positive number"
        if scales.size > 1 and source not in constants:
            yield f"{node.name}: activation '{source}' has a scale for each channel"
        if scales.size > 1 and source in constants and axis != 0:
            yield f"{node.name}: weight scales lie along axis {axis}, not 0"
        if node.op_type == QUANTIZE and maker and maker.op_type == DEQUANTIZE:
            yield f"{node.name}: '{source}' is quantized twice"


def _float_islands(model: onnx.ModelProto) -> Iterator[str]:
    """Float operations among quantized layers that serve nothing."""
    makers = {name: node for node in model.graph.node for name in node.output}

    def is_dequantized(name: str) -> bool:
        return name in makers and makers[name].op_type == DEQUANTIZE

    for node in model.graph.node:
        dequantized = [name for name in node.input if is_dequantized(name)]
        label = f"{node.name or node.output[0]}: {node.op_type}"
        if node.op_type == "Conv":
            if len(dequantized) == 1:
                float_input = "weights are" if node.input[0] in dequantized else "input is"
                yield f"{label} runs in float because its {float_input} not quantized"
        elif dequantized and node.op_type != QUANTIZE:
            yield f"{label} runs in float on what was quantized for it"
        if node.op_type == QUANTIZE:
            idle, before = [], makers.get(node.input[0])
            while before and before.op_type in FUSED | IDLE:
                if before.op_type in IDLE:
                    idle.append(f"{before.name or before.output[0]}: {before.op_type}")
                before = makers.get(before.input[0])
            if before and before.op_type == "Conv" and is_dequantized(before.input[0]):
                for name in idle:
                    yield f"{name} keeps a quantized convolution from its next quantization"
