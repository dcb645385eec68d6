"""The model inside Triton's Python backend: the whole inspection of a bundle.

Tensors are handed over by DLPack. Servers whose Python backend was built for NumPy 1 take NumPy 2
arrays without an error, and read and write zeros instead.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import open_bundle
from dad_edge.errors import DadEdgeError, DataError, DeviceError
from dad_edge.image.preprocess import read_frame
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.seams import Inspection
from dad_edge.triton.protocol import (
    BUNDLE,
    FRAME,
    HEAT,
    IMAGE,
    SCORE,
    SCORE_MAP,
    VERDICT,
    VERDICTS,
    digest_of,
)
from dad_edge.triton.repository import COPY

Frames = Sequence[NDArray[np.uint8]]

_MAKERS: dict[str, Callable[[Inspection], Any]] = {
    SCORE: lambda found: np.array([found.score], np.float32),
    VERDICT: lambda found: np.array([VERDICTS.index(found.verdict)], np.uint8),
    SCORE_MAP: lambda found: found.score_map,
    HEAT: lambda found: found.heat,
}
"""Output → what it is for one frame."""


class TritonPythonModel:
    """What Triton calls; names and arguments are those of its Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Open the version's bundle on the fastest engine that proves itself, and inspect a frame.

        Whatever this raises, Triton refuses the version and goes on serving the one before.
        """
        self._pb: Any = importlib.import_module("triton_python_backend_utils")
        folder = Path(args["model_repository"]) / args["model_version"] / COPY
        self._bundle = open_bundle(folder)
        self._digest = digest_of(self._bundle)
        self._inspector = self._opened()
        side = self._bundle.model.image_size
        self._inspector.inspect(np.zeros((side, side, 3), np.uint8))

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Inspect the frames of all requests together; an error concerns its request alone."""
        frames = [self._read(request) for request in requests]
        good = [each for each in frames if not isinstance(each, DadEdgeError)]
        try:
            found = iter(self._inspect([frame for each in good for frame in each]))
            results = [[next(found) for _ in each] for each in good]
        except DadEdgeError:
            return [self._alone(*pair) for pair in zip(requests, frames, strict=True)]
        left = iter(results)
        return [
            self._refused(each)
            if isinstance(each, DadEdgeError)
            else self._answer(asked, next(left))
            for asked, each in zip(requests, frames, strict=True)
        ]

    def finalize(self) -> None:
        """Give the engine back."""
        self._inspector.close()

    def _opened(self) -> Inspector:
        return open_inspector(self._bundle, pictures=False, stage_times=False)

    def _inspect(self, frames: Frames) -> list[Inspection]:
        """Inspect frames; an engine that failed is opened again, and has one more try."""
        try:
            return self._inspector.inspect_batch(frames)
        except DeviceError:
            self._inspector.close()
            self._inspector = self._opened()
            return self._inspector.inspect_batch(frames)

    def _alone(self, request: Any, frames: Frames | DadEdgeError) -> Any:
        try:
            if isinstance(frames, DadEdgeError):
                raise frames
            return self._answer(request, self._inspect(frames))
        except DadEdgeError as error:
            return self._refused(error)

    def _read(self, request: Any) -> Frames | DadEdgeError:
        """The frames of a request, or why there are none."""
        frame = self._pb.get_input_tensor_by_name(request, FRAME)
        image = self._pb.get_input_tensor_by_name(request, IMAGE)
        if (frame is None) == (image is None):
            return DataError(f"give {FRAME} or {IMAGE}, one of both.", "give one of them")
        if frame is not None:
            return list(np.from_dlpack(frame))
        files, depth = np.from_dlpack(image), self._bundle.model.bit_depth
        try:
            return [read_frame("of a request", depth, bytes(file)) for file in files]
        except DadEdgeError as error:
            return error

    def _answer(self, request: Any, found: Sequence[Inspection]) -> Any:
        tensors = []
        for name in request.requested_output_names():
            if name == BUNDLE:
                rows = [self._digest] * len(found)
            else:
                rows = [_MAKERS[name](each) for each in found]
            tensors.append(self._tensor(name, np.stack(rows)))
        return self._pb.InferenceResponse(tensors)

    def _refused(self, error: DadEdgeError) -> Any:
        kind = self._pb.TritonError
        code = kind.INVALID_ARG if isinstance(error, DataError) else kind.INTERNAL
        said = f"{error.message} next: {error.next_step}"
        return self._pb.InferenceResponse(error=kind(said, code))

    def _tensor(self, name: str, values: NDArray[Any]) -> Any:
        held = _Held(np.ascontiguousarray(values))
        tensor = self._pb.Tensor.from_dlpack(name, held)
        held.used()
        return tensor


class _Held:
    """An array to be taken by DLPack.

    Whoever takes a capsule renames it. Triton chooses a name of its own, which NumPy complains of
    as it frees the capsule, so that it gets the name of the standard afterwards.
    """

    _USED = b"used_dltensor"

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array
        self._capsule = array.__dlpack__()

    def __dlpack__(self, **_: object) -> object:
        return self._capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return 1, 0

    def used(self) -> None:
        """Note that the capsule was taken."""
        rename = ctypes.pythonapi.PyCapsule_SetName
        rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
        rename(self._capsule, self._USED)
