"""Graphs and commands for Polygraphy, NVIDIA's tool to look into networks for TensorRT."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dad_edge.config import RuntimeName
from dad_edge.runtime.engines import CPU_RUNTIMES

if TYPE_CHECKING:
    import onnx

ROI_VALUES = 8
"""Of a region of interest: begin and end in each of four dimensions."""


def for_polygraphy(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph in which no `Resize` leaves its region of interest out.

    It means nothing where the whole tensor is resized. `polygraphy debug reduce` takes an input
    that is left out for a tensor without a name, and fails (Polygraphy 0.53).
    """
    import onnx
    from onnx import numpy_helper

    result = onnx.ModelProto()
    result.CopyFrom(model)
    region = "whole_region"
    left_out = [n for n in result.graph.node if n.op_type == "Resize" and not n.input[1]]
    for node in left_out:
        node.input[1] = region
    if left_out:
        zeros = np.zeros(ROI_VALUES, np.float32)
        result.graph.initializer.append(numpy_helper.from_array(zeros, region))
    return result


def run_command(runtime: RuntimeName, graph: Path, inputs: Path) -> str:
    """How Polygraphy runs a graph beside ONNX Runtime, or on it alone for a CPU runtime.

    Args:
        runtime: of the engine.
        graph: an ONNX file.
        inputs: what it is given, as Polygraphy saves it.
    """
    runners = ["--onnxrt"]
    runners += [] if runtime in CPU_RUNTIMES else ["--trt", "--strongly-typed"]
    words = ["polygraphy", "run", str(graph), *runners, "--load-inputs", str(inputs)]
    return _with_runtime(runtime, words)


def reduce_command(runtime: RuntimeName, graph: Path, capabilities: Sequence[str]) -> str:
    """How Polygraphy finds the smallest part of a graph that TensorRT refuses.

    Args:
        runtime: `tensorrt` or `tensorrt-rtx`.
        graph: an ONNX file.
        capabilities: compute capabilities that TensorRT-RTX builds for; the GPU's own if empty.
    """
    reduced = graph.with_name(f"{graph.stem}-reduced.onnx")
    words = ["polygraphy", "debug", "reduce", str(graph), "--output", str(reduced)]
    words += ["--mode", "bisect", "--check", "polygraphy", "convert", "polygraphy_debug.onnx"]
    words += ["--strongly-typed"]
    if runtime == "tensorrt-rtx" and capabilities:
        words += ["--compute-capabilities", *capabilities]
    return _with_runtime(runtime, [*words, "--output", os.devnull, "--convert-to", "trt"])


def _with_runtime(runtime: RuntimeName, words: Sequence[str]) -> str:
    prefix = "POLYGRAPHY_USE_TENSORRT_RTX=1 " if runtime == "tensorrt-rtx" else ""
    return prefix + shlex.join(words)
