"""TensorRT engines of a bundle: whether they run here, and every command through one opening."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from fake_cuda import FakeDriver
from fake_tensorrt import make_plan, make_tensorrt
from proofs import accept, outcome
from small_networks import make_network_bundle, write_images, write_marked_data

from dad_edge.bundle import (
    DENOISER,
    ENGINES,
    REPORTS,
    SEGMENTER,
    Bundle,
    open_bundle,
    write_thresholds,
)
from dad_edge.cli.learn import evaluate_command
from dad_edge.errors import DeviceError, ModelError
from dad_edge.files import sha256_of
from dad_edge.gate.images import data_images
from dad_edge.gate.verify import verify
from dad_edge.image.scene import Scene
from dad_edge.kernels import compile as kernel_compiler
from dad_edge.kernels.compile import write_cubins
from dad_edge.runtime import engines
from dad_edge.runtime.engines import check_engine, why_not_here
from dad_edge.runtime.gpu.tensorrt_api import tensorrt_logger
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_engine, choose_to_judge, open_inspector
from dad_edge.runtime.opening import open_choice, open_graphs
from dad_edge.runtime.proof import Outcome, Proof
from dad_edge.runtime.sidecar import (
    KERNEL_FOLDER,
    SIDECAR_FORMAT,
    EngineFile,
    Gate,
    Sidecar,
    read_sidecar,
    this_platform,
    write_sidecar,
)
from dad_edge.stream.command import stream

pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

GPU: dict[str, Any] = {
    "gpus": [{"name": "L4", "compute_capability": "8.9", "multiprocessors": 58}],
    "reason": None,
}


@pytest.fixture(scope="module")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cubins")
    write_cubins(folder, ["sm_89"])
    return folder


@pytest.fixture
def trt(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """TensorRT 10.3.0 beside one GPU of compute capability 8.9, and no compiler."""

    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled on the device")

    module = make_tensorrt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    monkeypatch.setattr(engines, "describe_nvidia", lambda: GPU)
    monkeypatch.setattr(kernel_compiler, "compile_cubin", refuse)
    tensorrt_logger.cache_clear()
    yield module
    tensorrt_logger.cache_clear()


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


def add_engine(bundle: Bundle, cubins: Path, **changes: Any) -> Sidecar:
    """An engine as `dad-edge build` leaves it, of the fake TensorRT."""
    sidecar = Sidecar(
        format=SIDECAR_FORMAT,
        runtime="tensorrt",
        runtime_version="10.3.0",
        device="sm89",
        precision="fp16",
        onnx_sha256=bundle.onnx_digests,
        files={},
        platform=this_platform(),
        build_seconds=1.0,
        peak_memory_mib=1.0,
        gate=Gate(),
    )
    sidecar = replace(sidecar, **changes)
    folder = bundle.path / ENGINES / sidecar.name
    (folder / KERNEL_FOLDER).mkdir(parents=True)
    kernels = {}
    for cubin in cubins.iterdir():
        (folder / KERNEL_FOLDER / cubin.name).write_bytes(cubin.read_bytes())
        kernels[cubin.name] = sha256_of(cubin)
    files = {}
    for graph in (DENOISER, SEGMENTER):
        path = folder / f"{graph}.plan"
        make_plan(bundle.path / graph, path)
        files[graph] = EngineFile(name=path.name, sha256=sha256_of(path), bytes=1)
    return accept(bundle, replace(sidecar, files=files, kernels=kernels))


def test_the_engine_of_this_gpu_is_what_runs(
    bundle: Bundle, cubins: Path, trt: ModuleType, driver: FakeDriver, dark_frame: np.ndarray
) -> None:
    sidecar = add_engine(bundle, cubins)
    expected = open_graphs(bundle, seed=3, threads=1).inspect(dark_frame)
    for name in (None, sidecar.name):
        with open_inspector(bundle, seed=3, engine=name) as inspector:
            assert inspector.backend == "CUDA kernels on Fake GPU + TensorRT 10.3.0 fp16"
            found = inspector.inspect(dark_frame)
        assert found.score == pytest.approx(expected.score, abs=2e-6)
    assert driver.left() == {}


def test_the_line_on_this_gpu_knows_a_frame_without_a_part(
    bundle: Bundle, cubins: Path, trt: ModuleType, tmp_path: Path
) -> None:
    """Whatever the line leaves on the GPU, the scene is measured."""
    add_engine(bundle, cubins)
    assert bundle.thresholds is not None
    scene = Scene(brightness=(0.2, 0.8), contrast=(0.05, 0.4))
    write_thresholds(bundle, replace(bundle.thresholds, image_threshold=1.0, scene=scene))
    write_images(tmp_path / "line", 2)
    (tmp_path / "line/000.png").write_bytes(
        cv2.imencode(".png", np.zeros((48, 48, 3), np.uint8))[1].tobytes()
    )
    stream(str(tmp_path / "line"), lambda: open_bundle(bundle.path), out=tmp_path / "out")
    lines = (tmp_path / "out/results.jsonl").read_text().splitlines()
    header, black, part, _ = map(json.loads, lines)
    assert "CUDA" in header["backend"]
    assert (black["verdict"], part["verdict"]) == ("invalid", "good")
    assert black["reason"].startswith("too dark")


def test_a_plan_that_cannot_be_opened_leaves_nothing_behind(
    bundle: Bundle, cubins: Path, trt: ModuleType, driver: FakeDriver
) -> None:
    sidecar = add_engine(bundle, cubins)
    folder = bundle.path / ENGINES / sidecar.name
    plan = folder / sidecar.files[SEGMENTER].name
    plan.write_bytes(b"of another version")
    file = replace(sidecar.files[SEGMENTER], sha256=sha256_of(plan))
    write_sidecar(folder, replace(sidecar, files=sidecar.files | {SEGMENTER: file}))
    with pytest.raises(ModelError, match=r"TensorRT 10\.3\.0 fp16 refuses"):
        open_inspector(bundle, engine=sidecar.name)
    choice = choose_engine(bundle)
    assert choice.name is None
    assert "TensorRT 10.3.0 fp16 refuses" in choice.passed_over[0]
    assert driver.left() == {}
    assert driver.retained == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"runtime_version": "10.4.0"}, "built with tensorrt 10.4.0, here is 10.3.0"),
        ({"device": "sm87"}, "built for compute capability 8.7, here is 8.9"),
        ({"platform": "Linux-other"}, "built for Linux-other, here is"),
        ({"gpu": "L40S", "multiprocessors": 142}, "built on L40S with 142 multiprocessors, here"),
    ],
)
def test_an_engine_for_another_machine_is_refused_with_what_differs(
    bundle: Bundle, cubins: Path, trt: ModuleType, change: dict[str, Any], reason: str
) -> None:
    name = add_engine(bundle, cubins, **change).name
    with pytest.raises(DeviceError, match=f"cannot run here: {reason}") as caught:
        open_inspector(bundle, engine=name)
    assert "dad-edge build --precision fp16 --runtime tensorrt" in caught.value.next_step
    assert choose_engine(bundle).name is None
    assert "ONNX Runtime" in open_inspector(bundle, threads=1).backend


def test_what_is_missing_here_is_named(
    bundle: Bundle, cubins: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = add_engine(bundle, cubins)
    assert why_not_here(sidecar) is None
    nothing = {"gpus": [], "reason": "no NVIDIA driver: libcuda.so.1 is not here"}
    monkeypatch.setattr(engines, "describe_nvidia", lambda: nothing)
    assert why_not_here(sidecar) == nothing["reason"]
    monkeypatch.delitem(sys.modules, "tensorrt")
    assert why_not_here(sidecar) == "package 'tensorrt' is not installed"


def test_a_warning_of_tensorrt_reaches_the_user(
    bundle: Bundle, cubins: Path, trt: ModuleType, caplog: pytest.LogCaptureFixture
) -> None:
    trt.warning = "Using an engine plan file across\n different models of devices. "
    open_inspector(bundle, engine=add_engine(bundle, cubins).name).close()
    warnings = [record for record in caplog.records if "different models" in record.message]
    assert warnings
    assert warnings[0].levelname == "WARNING"
    assert warnings[0].message == (
        "tensorrt: Using an engine plan file across different models of devices."
    )


def test_the_gate_decides_between_engines(
    bundle: Bundle, cubins: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = add_engine(bundle, cubins)
    single = add_engine(bundle, cubins, precision="fp32")
    times_ms = {"fp16": 2.0, "fp32": 5.0}

    def prove(inspector: Inspector, proof: Proof, clock: object) -> Outcome:
        return outcome(times_ms[inspector.backend.split()[-1]])

    monkeypatch.setattr("dad_edge.runtime.inspector.prove", prove)
    assert choose_engine(bundle).name == half.name, "it is the faster one"
    write_sidecar(bundle.path / ENGINES / half.name, replace(half, gate=Gate()))
    choice = choose_engine(bundle)
    assert choice.name == single.name
    assert "has not judged it; 'dad-edge verify --engine" in choice.passed_over[0]
    write_sidecar(bundle.path / ENGINES / half.name, replace(half, proof_sha256=None))
    choice = choose_engine(bundle)
    assert choice.name == single.name
    assert "no proof" in choice.passed_over[0]
    rejected = Gate(passed=False, reason="mask error")
    write_sidecar(bundle.path / ENGINES / half.name, replace(half, gate=rejected))
    assert choose_engine(bundle).name == single.name
    with pytest.raises(ModelError, match="rejected by the accuracy gate: mask error"):
        open_inspector(bundle, engine=half.name)
    open_choice(choose_to_judge(bundle, half.name)).close()


def test_an_engine_that_does_not_fit_any_more_gives_way_or_says_so(
    bundle: Bundle, cubins: Path, trt: ModuleType
) -> None:
    half = add_engine(bundle, cubins)
    single = add_engine(bundle, cubins, precision="fp32", onnx_sha256={})
    assert choose_engine(bundle).name == half.name
    write_sidecar(bundle.path / ENGINES / half.name, replace(half, onnx_sha256={}))
    with pytest.raises(ModelError, match=r"does not fit: built from another denoiser\.onnx"):
        open_inspector(bundle)
    for sidecar in (half, single):
        write_sidecar(bundle.path / ENGINES / sidecar.name, replace(sidecar, format=1))
    assert choose_engine(bundle).name is None
    assert "ONNX Runtime" in open_inspector(bundle, threads=1).backend


def test_a_changed_kernel_is_refused(bundle: Bundle, cubins: Path, trt: ModuleType) -> None:
    name = add_engine(bundle, cubins).name
    kernel = bundle.path / ENGINES / name / KERNEL_FOLDER / "pool-sm_89.cubin"
    kernel.write_bytes(kernel.read_bytes() + b"\0")
    with pytest.raises(ModelError, match=r"pool-sm_89\.cubin is missing or was changed"):
        check_engine(bundle, name)


def test_the_accuracy_gate_judges_it(
    bundle: Bundle, cubins: Path, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    name = add_engine(bundle, cubins).name
    report = verify(bundle, name, data_images(write_marked_data(bundle, tmp_path / "data")))
    assert report.judgement.outcome == "passed", report
    assert "Fake GPU" in report.backend
    assert "ONNX Runtime" in report.reference
    assert read_sidecar(bundle, name).gate.passed
    assert (bundle.path / REPORTS / name / "verify.json").is_file()
    assert driver.left() == {}


def test_the_evaluation_runs_on_it_and_gives_it_back(
    bundle: Bundle, cubins: Path, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    add_engine(bundle, cubins)
    data = tmp_path / "data"
    for index, kind in enumerate(("train/good", "test/good", "test/bad")):
        write_images(data / kind, 2, low=40 * index)
    evaluate_command(data, "test", bundle.path, None, None, "auto", tmp_path / "report", False)
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert "CUDA kernels on Fake GPU" in json.dumps(report)
    assert driver.left() == {}


def test_the_line_runs_on_it_and_says_so(
    bundle: Bundle,
    cubins: Path,
    trt: ModuleType,
    driver: FakeDriver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    add_engine(bundle, cubins)
    caplog.set_level(logging.INFO)
    summary = stream("demo://", open_bundle=lambda: bundle, out=tmp_path / "out", max_frames=3)
    assert summary.frames == 3
    assert "backend: CUDA kernels on Fake GPU + TensorRT" in caplog.text
    header = json.loads((tmp_path / "out" / "results.jsonl").read_text().splitlines()[0])
    assert header["backend"].startswith("CUDA kernels")
    assert driver.left() == {}
