"""Engine on ONNX Runtime."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DeviceError, ModelError
from dad_edge.machine.environment import usable_cores

if TYPE_CHECKING:
    import onnx


def session_options(threads: int) -> Any:
    """How every session runs: as many threads, which sleep while they wait."""
    options = importlib.import_module("onnxruntime").SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Threads that spin while they wait take the cores from the reader and the writer.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options


class OnnxEngine:
    """One ONNX graph on ONNX Runtime's CPU provider."""

    def __init__(self, path: Path, precision: str = "fp32", threads: int | None = None) -> None:
        """
        Args:
            path: the graph.
            precision: precision of the graph, for the name.
            threads: threads that compute; all usable cores if None.

        Raises:
            ModelError: ONNX Runtime refuses the graph.
        """
        ort: Any = importlib.import_module("onnxruntime")
        threads = threads or usable_cores()
        options = session_options(threads)
        try:
            self._session = ort.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # ONNX Runtime's own exception types share no public base
            raise ModelError(
                f"ONNX Runtime {ort.__version__} refuses {path}: {_first_line(error)}.",
                "export the bundle again, or build the engine again",
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.name = f"ONNX Runtime {ort.__version__} CPU {precision}, {threads} threads"

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        try:
            values = self._session.run(self._outputs, inputs)
        except Exception as error:
            raise DeviceError(
                f"ONNX Runtime failed: {_first_line(error)}.",
                "run 'dad-edge doctor'; if the bundle is in order, restart the command",
            ) from error
        return dict(zip(self._outputs, values, strict=True))


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0].rstrip(".")


class LeanEngine:
    """A graph with an output behind every layer: each tensor is let go once it is used.

    The runtime's usual order of execution runs a graph to its end before it turns to side branches,
    and keeps every tensor that they need until then; its usual allocator keeps what it once had.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        ort: Any = importlib.import_module("onnxruntime")
        options = session_options(usable_cores())
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
