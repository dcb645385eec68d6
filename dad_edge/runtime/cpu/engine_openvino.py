"""Engine on OpenVINO: the same graphs as ONNX Runtime's, compiled for the CPU that is here."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DeviceError, ModelError, require
from dad_edge.machine.environment import usable_cores

SHAPES = 4
"""Batch sizes that stay compiled; a fifth replaces the first."""


@contextmanager
def without_telemetry() -> Iterator[None]:
    """Hide OpenVINO's telemetry package while OpenVINO is imported.

    The import otherwise writes into the home folder and tells a server on the internet about it,
    which no inspection line may do unasked. Without that package OpenVINO uses a stub of its own.
    """
    name = "openvino_telemetry"
    loaded = sys.modules.get(name)
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]
        if loaded is not None:
            sys.modules[name] = loaded


def load_openvino() -> ModuleType:
    """The module.

    Raises:
        MissingDependency: OpenVINO is not installed.
    """
    with without_telemetry():
        return require("openvino", "openvino", "run networks on OpenVINO")


def openvino_version() -> str:
    """Version such as `2026.4.1`, without the build's own numbers."""
    return str(load_openvino().__version__).split("-")[0]


@cache
def shared_core() -> Any:
    """The one OpenVINO core of this process, which is never let go.

    A core gives the process another stack for signals. When a second core ends after the first,
    it puts the stack of the first one back, which is gone, and the next Ctrl-C ends in a crash.
    """
    return load_openvino().Core()


def cpu_settings(threads: int) -> dict[str, Any]:
    """How every graph is compiled."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
        # CPUs with bfloat16 or float16 arithmetic would round FP32 networks without asking.
        "INFERENCE_PRECISION_HINT": "f32",
        # Threads tied to cores wait behind whatever else runs there: reader, writer, others.
        "ENABLE_CPU_PINNING": False,
    }


class OpenvinoEngine:
    """One ONNX graph on OpenVINO's CPU plugin, compiled for each batch size that it meets."""

    def __init__(
        self,
        path: Path,
        precision: str = "fp32",
        threads: int | None = None,
        rows: int | None = None,
    ) -> None:
        """
        Args:
            path: the graph, with one input whose first dimension is free.
            precision: precision of the graph, for the name.
            threads: threads that compute; all usable cores if None.
            rows: size of the first dimension to compile for now; at the first run if None.

        Raises:
            MissingDependency: OpenVINO is not installed.
            ModelError: OpenVINO refuses the graph.
        """
        self._core = shared_core()
        threads = threads or usable_cores()
        self._path = path
        self._settings = cpu_settings(threads)
        self._requests: dict[int, Any] = {}
        self.name = f"OpenVINO {openvino_version()} CPU {precision}, {threads} threads"
        try:
            self._model = self._core.read_model(path)
        except RuntimeError as error:
            raise self._refusal(error) from error
        if rows is not None:
            self._request_for(rows)

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        request = self._request_for(len(next(iter(inputs.values()))))
        try:
            results = request.infer(inputs, share_inputs=True)
        except (RuntimeError, TypeError) as error:
            raise DeviceError(
                f"OpenVINO failed: {_reason(error)}.",
                "run 'dad-edge doctor'; if the bundle is in order, restart the command",
            ) from error
        # An output that an Identity renamed has both names, in no order.
        return {name: value for output, value in results.items() for name in output.get_names()}

    def _request_for(self, rows: int) -> Any:
        """The graph compiled for a batch size."""
        if rows not in self._requests:
            if len(self._requests) == SHAPES:
                del self._requests[next(iter(self._requests))]
            try:
                model = self._model.clone()
                shape = model.input(0).get_partial_shape()
                shape[0] = rows
                model.reshape(shape)
                compiled = self._core.compile_model(model, "CPU", self._settings)
            except RuntimeError as error:
                raise self._refusal(error) from error
            self._requests[rows] = compiled.create_infer_request()
        return self._requests[rows]

    def _refusal(self, error: Exception) -> ModelError:
        return ModelError(
            f"OpenVINO {openvino_version()} refuses {self._path}: {_reason(error)}.",
            "export the bundle again, build the engine again, or use --runtime onnxruntime",
        )


def _reason(error: Exception) -> str:
    """The last line of OpenVINO's message that is not about where in its sources it arose."""
    lines = [line.strip() for line in str(error).splitlines()]
    said = [line for line in lines if line and not line.startswith(("Exception from", "Check '"))]
    return (said or lines or [type(error).__name__])[-1].rstrip(".")
