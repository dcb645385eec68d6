"""What TensorRT needs of a graph: the same function, written so that it moves half the memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from dad_edge.graphs.group_norm import GroupNorm, Writer, find_group_norms, replace_group_norms

if TYPE_CHECKING:
    import onnx

LARGE_PIXELS = 128 * 128
"""Pixels from which the mean over an image is taken over one axis after the other: over both at
once the builder first writes all of them out in float."""


def for_tensorrt(model: onnx.ModelProto) -> onnx.ModelProto:
    """A typed graph as TensorRT and TensorRT-RTX should get it.

    Args:
        model: a graph of the bundle in any precision.

    Returns:
        A new graph with the same inputs and outputs. One without half precision is the same.
    """
    import onnx

    result = onnx.ModelProto()
    result.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(result, data_prop=True).graph
    pixels = {
        value.name: int(np.prod([d.dim_value for d in value.type.tensor_type.shape.dim[2:]]))
        for value in (*inferred.input, *inferred.value_info)
    }

    def write_split(norm: GroupNorm, write: Writer) -> None:
        _write_split(norm, write, is_large=pixels.get(norm.source, 0) >= LARGE_PIXELS)

    norms = (norm for norm in find_group_norms(result.graph) if norm.is_half)
    replace_group_norms(result.graph, norms, write_split)
    onnx.checker.check_model(result)
    return result


def _write_split(norm: GroupNorm, write: Writer, *, is_large: bool) -> None:
    """Write group normalization as one pass that reads and one that normalises.

    The first takes the means of x and of x² over each channel, in float; means and variances of the
    groups follow from these few numbers. The builder fuses each pass with what stands before and
    behind it, while it gives InstanceNormalization float copies of its whole input and output.

    The difference of the two means loses as much of a small variance as rounding x to half
    precision does; it is kept from falling below 0. The mean is subtracted before the scale is
    applied, so that what is constant in a channel vanishes exactly and nothing leaves the range.
    """
    from onnx import TensorProto

    channels, positions = len(norm.gamma), norm.gamma.ndim - 1
    groups = (1, norm.groups, channels // norm.groups)
    by_group = write.constant("by_group", np.array((0, *groups[1:]), np.int64))
    by_channel = write.constant("by_channel", np.array((0, channels, *[1] * positions), np.int64))

    def mean(name: str, key: str, *axes: int) -> str:
        over = write.constant(f"{key}_axes", np.array(axes, np.int64))
        return write.node("ReduceMean", [name, over], key, keepdims=1)

    def group_mean(name: str, key: str) -> str:
        if is_large and positions == 2:
            channel_mean = mean(mean(name, f"{key}_of_rows", 3), f"{key}_of_channels", 2)
        else:
            channel_mean = mean(name, f"{key}_of_channels", *range(2, 2 + positions))
        return mean(write.node("Reshape", [channel_mean, by_group], f"{key}_by_group"), key, 2)

    def for_channels(name: str, key: str) -> str:
        shaped = write.node("Reshape", [name, by_channel], f"{key}_by_channel")
        return write.node("Cast", [shaped], f"{key}_as_x", to=TensorProto.FLOAT16)

    wide = write.node("Cast", [norm.source], "wide", to=TensorProto.FLOAT)
    mean_x = group_mean(wide, "mean")
    mean_square = group_mean(write.node("Mul", [wide, wide], "square"), "mean_square")
    square_mean = write.node("Mul", [mean_x, mean_x], "square_mean")
    difference = write.node("Sub", [mean_square, square_mean], "difference")
    variance = write.node("Relu", [difference], "variance")
    epsilon = write.constant("epsilon", np.array(norm.epsilon, np.float32))
    deviation = write.node("Sqrt", [write.node("Add", [variance, epsilon], "above_zero")], "dev")
    gamma = write.constant("gamma", norm.gamma.reshape(groups))
    ones = write.constant("ones", np.ones((1, 1, groups[2]), np.float32))
    scale = for_channels(write.node("Div", [gamma, deviation], "scale"), "scale")
    middle = for_channels(write.node("Mul", [mean_x, ones], "middle"), "middle")
    beta = write.constant("beta", norm.beta[None].astype(np.float16))
    centred = write.node("Sub", [norm.source, middle], "centred")
    scaled = write.node("Mul", [centred, scale], "scaled")
    write.last("Add", [scaled, beta], norm.target)
