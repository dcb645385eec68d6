"""ONNX Runtime for graphs with an output behind every layer: each tensor is let go once it is used.

The runtime's usual order of execution runs a graph to its end before it turns to side branches,
and keeps every tensor that they need until then; its usual allocator keeps what it once had.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import onnx


class LeanEngine:
    """One graph in memory on ONNX Runtime's CPU provider, in the order of its nodes."""

    def __init__(self, model: onnx.ModelProto) -> None:
        ort: Any = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = len(os.sched_getaffinity(0))
        options.log_severity_level = 3
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.enable_cpu_mem_arena = False
        options.enable_mem_pattern = False
        options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        # Fused nodes would come last in the order.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
        self._session = ort.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in model.graph.output]

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        """Named tensors in, every output of the graph out."""
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))
