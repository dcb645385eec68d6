"""Square matrix products, ready to be called, to measure a device's speed with."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from dad_edge.bench.case import CasePrecision, Device
from dad_edge.errors import DeviceError, require
from dad_edge.machine.environment import usable_cores
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine


def onnx_gemm(side: int, precision: CasePrecision) -> Callable[[], object]:
    """A product in ONNX Runtime on all usable cores.

    Args:
        side: rows and columns.
        precision: `fp32` or `int8`.
    """
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    left: Any = rng.random((side, side), dtype=np.float32)
    weights: Any = rng.random((side, side), dtype=np.float32)
    op, kinds = "MatMul", (TensorProto.FLOAT, TensorProto.FLOAT)
    if precision == "int8":
        left, weights = (left * 255).astype(np.uint8), (weights * 127).astype(np.int8)
        op, kinds = "MatMulInteger", (TensorProto.UINT8, TensorProto.INT32)
    graph = helper.make_graph(
        [helper.make_node(op, ["left", "weights"], ["product"])],
        "peak",
        [helper.make_tensor_value_info("left", kinds[0], [side, side])],
        [helper.make_tensor_value_info("product", kinds[1], [side, side])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "peak.onnx"
        save(model, path)
        engine = OnnxEngine(path, threads=usable_cores())
    return lambda: engine.run({"left": left})


def torch_on(device: Device) -> Any:
    """PyTorch, if it can use the device.

    Raises:
        MissingDependency: it is not installed.
        DeviceError: it finds no GPU.
    """
    torch = require("torch", "train", "measure the peak of this device")
    if device == "cuda" and not torch.cuda.is_available():
        raise DeviceError("PyTorch finds no CUDA device.", "run 'dad-edge doctor'")
    return torch


def torch_gemm(side: int, device: Device, precision: CasePrecision) -> Callable[[], object]:
    """A product in PyTorch; on a GPU a call ends when its result is there.

    Raises:
        MissingDependency: PyTorch is not installed.
        DeviceError: it finds no GPU.
    """
    torch = torch_on(device)
    if precision == "int8":
        left = torch.randint(-127, 127, (side, side), dtype=torch.int8, device=device)
        right = left.t()

        def product() -> object:
            return torch._int_mm(left, right)
    else:
        kind = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(precision, torch.float32)
        left = torch.rand(side, side, device=device, dtype=kind)

        def product() -> object:
            torch.backends.cuda.matmul.allow_tf32 = precision == "tf32"
            return left @ left

    def call() -> None:
        product()
        if device == "cuda":
            torch.cuda.synchronize()

    return call
