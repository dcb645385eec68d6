"""An engine on the fake device: a small ONNX graph, run by ONNX Runtime on "device" memory."""

from __future__ import annotations

import ctypes
import tempfile
from pathlib import Path

import numpy as np
from fake_cuda import FakeDriver, real

from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.seams import Element, Pass


class OnnxOnDevice:
    """Enqueues a graph as a GPU runtime does."""

    name = "ONNX Runtime on a fake GPU"

    def __init__(
        self,
        driver: FakeDriver,
        graph: Path | bytes,
        shape: tuple[int, int, int],
        names: tuple[str, str],
        element: Element = "f32",
        max_rows: int | None = None,
    ) -> None:
        """
        Args:
            driver: holds the streams.
            graph: the file, or what is in it.
            shape: channels in, channels out, and side of the images.
            names: of the input and the output.
            element: type of the tensors on the device.
            max_rows: largest number of rows at once.
        """
        self.element = element
        self.max_rows = max_rows
        self.closed = False
        self.bound: list[int] = []
        self._driver = driver
        self._graph = _open(graph)
        self._shape, self._names = shape, names

    def bind(self, rows: int, source: int, target: int, stream: int) -> Pass:
        self.bound.append(rows)
        channels_in, channels_out, side = self._shape
        kind = np.dtype(np.float32 if self.element == "f32" else np.float16)

        def tensor(address: int, channels: int) -> np.ndarray:
            count = rows * channels * side * side
            memory = (ctypes.c_uint8 * (count * kind.itemsize)).from_address(address)
            return np.frombuffer(memory, kind).reshape(rows, channels, side, side)

        def run() -> None:
            value = tensor(source, channels_in).astype(np.float32)
            result = self._graph.run({self._names[0]: value})[self._names[1]]
            tensor(target, channels_out)[...] = result

        return Pass(lambda _: self._driver.enqueue(real.CUstream(stream), run))

    def close(self) -> None:
        self.closed = True


def _open(graph: Path | bytes) -> OnnxEngine:
    if isinstance(graph, Path):
        return OnnxEngine(graph, threads=1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        path.write_bytes(graph)
        return OnnxEngine(path, threads=1)
