"""The model inside the server, with a stand-in for Triton's own module."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from tiny import make_tiny_bundle

from dad_edge.bundle import open_bundle
from dad_edge.errors import DadEdgeError, DeviceError
from dad_edge.runtime.inspector import open_inspector
from dad_edge.triton.protocol import digest_of
from dad_edge.triton.repository import export_version
from dad_edge.triton.served import TritonPythonModel

ALL = ("SCORE", "VERDICT", "BUNDLE", "SCORE_MAP", "HEAT")


class Error(Exception):
    INVALID_ARG, INTERNAL = "invalid argument", "internal"

    def __init__(self, message: str, code: str) -> None:
        super().__init__(message)
        self.code = code


class Response:
    def __init__(self, tensors: Any = (), error: Error | None = None) -> None:
        self.error = error
        self.tensors = dict(tensors)


class Request:
    def __init__(self, wanted: tuple[str, ...] = ALL, **inputs: np.ndarray) -> None:
        self.inputs, self.wanted = inputs, wanted

    def requested_output_names(self) -> tuple[str, ...]:
        return self.wanted


def from_dlpack(name: str, held: Any) -> tuple[str, np.ndarray]:
    """As Triton does: it takes the values and gives the capsule a name of its own."""
    assert held.__dlpack_device__() == (1, 0)
    rename = ctypes.pythonapi.PyCapsule_SetName
    rename.argtypes = (ctypes.py_object, ctypes.c_char_p)
    values = held._array.copy()
    rename(held.__dlpack__(stream=None), b"used_dlpack")
    return name, values


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TritonPythonModel]:
    backend: Any = ModuleType("triton_python_backend_utils")
    backend.get_input_tensor_by_name = lambda request, name: request.inputs.get(name)
    backend.Tensor = SimpleNamespace(from_dlpack=from_dlpack)
    backend.InferenceResponse, backend.TritonError = Response, Error
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", backend)
    bundle = make_tiny_bundle(tmp_path / "bundle")
    folder = export_version(bundle, tmp_path / "models", "bolts")
    served = TritonPythonModel()
    served.initialize({"model_repository": str(folder.parent), "model_version": folder.name})
    yield served
    served.finalize()


def test_requests_are_inspected_together_each_as_it_would_be_alone(
    model: TritonPythonModel, tmp_path: Path, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    frames = np.stack([dark_frame, bright_frame])
    file = cv2.imencode(".png", bright_frame)[1].reshape(1, -1)
    answers = model.execute([Request(FRAME=frames), Request(IMAGE=file)])
    with open_inspector(tmp_path / "bundle") as inspector:
        expected = inspector.inspect_batch([dark_frame, bright_frame])
    digest = digest_of(open_bundle(tmp_path / "bundle"))
    for answer, wanted in zip(answers, (expected, expected[1:]), strict=True):
        assert answer.error is None
        found = answer.tensors
        np.testing.assert_array_equal(found["SCORE"], [[each.score] for each in wanted])
        np.testing.assert_array_equal(found["SCORE_MAP"], [each.score_map for each in wanted])
        np.testing.assert_array_equal(found["HEAT"], [each.heat for each in wanted])
        np.testing.assert_array_equal(found["BUNDLE"], [digest] * len(wanted))
    assert answers[0].tensors["VERDICT"].tolist() == [[0], [1]]
    assert {name: value.dtype for name, value in answers[0].tensors.items()} == {
        "SCORE": np.float32,
        "VERDICT": np.uint8,
        "BUNDLE": np.uint8,
        "SCORE_MAP": np.float32,
        "HEAT": np.uint8,
    }


def test_only_what_is_asked_for_is_made(model: TritonPythonModel, dark_frame: np.ndarray) -> None:
    [answer] = model.execute([Request(("SCORE",), FRAME=dark_frame[None])])
    assert list(answer.tensors) == ["SCORE"]


def test_a_bad_request_concerns_itself_alone(
    model: TritonPythonModel, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    damaged = np.frombuffer(b"\x89PNG\r\n\x1a\nno picture", np.uint8).copy()[None]
    requests = [
        Request(IMAGE=damaged),
        Request(("VERDICT",), FRAME=bright_frame[None]),
        Request(),
        Request(FRAME=np.zeros((1, 0, 5, 3), np.uint8)),
        Request(("VERDICT",), FRAME=dark_frame[None]),
    ]
    answers = model.execute(requests)
    assert [answer.error is None for answer in answers] == [False, True, False, False, True]
    assert [a.tensors["VERDICT"].tolist() for a in answers if a.error is None] == [[[1]], [[0]]]
    for answer in answers:
        if answer.error is not None:
            assert answer.error.code == Error.INVALID_ARG
            assert " next: " in str(answer.error)


def test_an_engine_that_failed_is_opened_again(
    model: TritonPythonModel, bright_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = Request(("VERDICT",), FRAME=bright_frame[None])

    def fail(frames: object) -> Any:
        raise DeviceError("the GPU was lost.", "open it again")

    failed = model._inspector
    monkeypatch.setattr(failed, "inspect_batch", fail)
    [answer] = model.execute([request])
    assert answer.tensors["VERDICT"].tolist() == [[1]]
    assert model._inspector is not failed

    monkeypatch.setattr(type(failed), "inspect_batch", lambda *_: fail(None))
    [answer] = model.execute([request])
    assert (answer.error.code, "GPU was lost" in str(answer.error)) == (Error.INTERNAL, True)


def test_a_version_with_a_damaged_bundle_does_not_load(
    model: TritonPythonModel, tmp_path: Path
) -> None:
    folder = tmp_path / "models" / "bolts" / "1"
    (folder / "bundle" / "segmenter.onnx").write_bytes(b"damaged")
    arguments = {"model_repository": str(folder.parent), "model_version": "1"}
    with pytest.raises(DadEdgeError):
        TritonPythonModel().initialize(arguments)
