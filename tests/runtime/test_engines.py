from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from dad_edge.bundle import ENGINES, Bundle, Calibration, open_bundle, write_calibration
from dad_edge.deploy.build import Target, build
from dad_edge.errors import DeviceError, ModelError
from dad_edge.files import sha256_of
from dad_edge.runtime.engines import check_engine, engines_here
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.sidecar import KERNEL_FOLDER, SIDECAR, list_engines, read_sidecar

CPU = Target(runtime="onnxruntime")
NAME = f"cpu-onnxruntime-{onnxruntime.__version__}-fp16"


@pytest.fixture
def built(tiny_bundle: Bundle) -> Bundle:
    build(tiny_bundle, "fp16", CPU)
    return tiny_bundle


def _edit(bundle: Bundle, change: Callable[[dict[str, Any]], None], name: str = NAME) -> None:
    path = bundle.path / ENGINES / name / SIDECAR
    mapping = json.loads(path.read_text())
    change(mapping)
    path.write_text(json.dumps(mapping))


def test_the_inspector_runs_the_named_engine(built: Bundle, bright_frame: np.ndarray) -> None:
    inspector = open_inspector(built, threads=1, engine=NAME)
    assert "fp16" in inspector.backend
    expected = open_inspector(built, threads=1).inspect(bright_frame)
    found = inspector.inspect(bright_frame)
    assert found.verdict == "defect"
    assert found.score == pytest.approx(expected.score, abs=5e-3)


def test_an_unknown_engine_is_answered_with_those_that_are_there(built: Bundle) -> None:
    with pytest.raises(ModelError, match=f"no engine 'gpu'; it has: {NAME}"):
        open_inspector(built, engine="gpu")


def test_drafts_are_not_engines(built: Bundle) -> None:
    draft = built.path / ENGINES / ".draft"
    draft.mkdir()
    (draft / SIDECAR).write_text("{}")
    assert list_engines(built) == [NAME]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda m: m.update(runtime_version="1.2.3"), "built with ONNX Runtime 1.2.3, here is"),
        (lambda m: m["onnx_sha256"].update({"denoiser.onnx": "0"}), "another denoiser.onnx"),
        (lambda m: m["files"]["segmenter.onnx"].update(sha256="0"), "segmenter.onnx is missing or"),
        (lambda m: m.update(device="sm87"), "its sidecar says 'sm87-"),
    ],
)
def test_an_engine_that_does_not_fit_is_refused(
    built: Bundle, change: Callable[[dict[str, Any]], None], reason: str
) -> None:
    _edit(built, change)
    with pytest.raises(ModelError, match=reason) as caught:
        open_inspector(built, engine=NAME)
    assert "dad-edge build --precision fp16 --runtime onnxruntime" in caught.value.next_step


def test_a_changed_engine_file_is_refused(built: Bundle) -> None:
    path = built.path / ENGINES / NAME / "denoiser.onnx"
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"denoiser\.onnx is missing or was changed"):
        check_engine(built, NAME)


def test_numbers_of_an_engine_in_another_file_are_refused(built: Bundle) -> None:
    path = built.path / ENGINES / NAME / "denoiser.onnx"
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    _edit(built, lambda m: m["files"]["denoiser.onnx"].update(sha256=sha256_of(path)))
    with pytest.raises(ModelError, match=r"denoiser\.onnx has numbers in another file"):
        check_engine(built, NAME)


@pytest.mark.parametrize("named", ["bundle.json", "engine.json"])
def test_every_digit_of_a_digest_counts(built: Bundle, named: str) -> None:
    """A file of which the first digits agree is another file."""
    if named == "engine.json":
        _edit(
            built,
            lambda m: m["files"]["segmenter.onnx"].update(
                sha256=m["files"]["segmenter.onnx"]["sha256"][:-1] + "x"
            ),
        )
        with pytest.raises(ModelError, match=r"segmenter\.onnx is missing or was changed"):
            check_engine(built, NAME)
        return
    path = built.path / named
    manifest = json.loads(path.read_text())
    manifest["sha256"]["denoiser.onnx"] = manifest["sha256"]["denoiser.onnx"][:-1] + "x"
    path.write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match=r"denoiser\.onnx was changed"):
        open_bundle(built.path)


def test_an_engine_that_lacks_a_kernel_is_refused(built: Bundle) -> None:
    _edit(built, lambda m: m.update(kernels={"pool-sm_90.cubin": "0" * 64}))
    with pytest.raises(ModelError, match=r"pool-sm_90\.cubin is missing or was changed"):
        check_engine(built, NAME)


def test_an_int8_engine_says_which_ranges_it_has(tiny_bundle: Bundle) -> None:
    empty: dict[str, dict[str, tuple[float, float]]] = {"denoiser.onnx": {}, "segmenter.onnx": {}}
    write_calibration(tiny_bundle, Calibration(method="min-max", ranges=empty))
    name = build(open_bundle(tiny_bundle.path), "int8", CPU).name
    _edit(tiny_bundle, lambda m: m.update(calibration_sha256=None), name)
    with pytest.raises(ModelError, match=r"built from another calibration\.json"):
        check_engine(open_bundle(tiny_bundle.path), name)


def test_a_kernel_that_came_later_is_refused(built: Bundle) -> None:
    folder = built.path / ENGINES / NAME / KERNEL_FOLDER
    folder.mkdir()
    (folder / "pool-sm_90.cubin").write_bytes(b"x")
    with pytest.raises(ModelError, match=r"pool-sm_90\.cubin is not of this engine"):
        check_engine(built, NAME)


def test_an_int8_engine_is_refused_after_another_calibration(tiny_bundle: Bundle) -> None:
    empty: dict[str, dict[str, tuple[float, float]]] = {"denoiser.onnx": {}, "segmenter.onnx": {}}
    write_calibration(tiny_bundle, Calibration(method="min-max", ranges=empty))
    name = build(open_bundle(tiny_bundle.path), "int8", CPU).name
    assert check_engine(open_bundle(tiny_bundle.path), name).gate.passed is None
    write_calibration(tiny_bundle, Calibration(method="entropy", ranges=empty))
    with pytest.raises(ModelError, match=r"built from another calibration\.json"):
        check_engine(open_bundle(tiny_bundle.path), name)


def test_a_plan_for_a_gpu_is_refused_with_a_reason(built: Bundle) -> None:
    _edit(built, lambda m: m.update(runtime="tensorrt-rtx"))
    with pytest.raises(DeviceError, match="cannot run here: "):
        open_inspector(built, engine=NAME)


def test_an_engine_that_the_gate_rejected_does_not_run(built: Bundle) -> None:
    _edit(built, lambda m: m.update(gate={"passed": False, "reason": "mask error 0.5"}))
    with pytest.raises(ModelError, match=r"rejected by the accuracy gate: mask error 0\.5"):
        open_inspector(built, engine=NAME)


def test_a_sidecar_of_another_format_is_refused(built: Bundle) -> None:
    _edit(built, lambda m: m.update(format=99))
    with pytest.raises(ModelError, match="format 99"):
        read_sidecar(built, NAME)


def test_names_cannot_leave_the_folder(built: Bundle, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no engine"):
        read_sidecar(built, f"../{ENGINES}/{NAME}")


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda path: path.write_text("{"), "cannot be read"),
        (lambda path: (path.parent / "denoiser.onnx").unlink(), "is missing or was changed"),
    ],
)
def test_an_engine_is_not_passed_over_unsaid(
    built: Bundle, caplog: pytest.LogCaptureFixture, damage: Callable[[Path], Any], reason: str
) -> None:
    damage(built.path / ENGINES / NAME / SIDECAR)
    assert engines_here(built) == []
    (said,) = caplog.messages
    assert f"engine '{NAME}' is not used" in said
    assert reason in said
