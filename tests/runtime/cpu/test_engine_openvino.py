"""OpenVINO answers as ONNX Runtime does, and keeps to itself."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from proofs import accept, outcome
from small_networks import make_network_bundle, write_images, write_marked_data

from dad_edge.bundle import DENOISER, ENGINES, SEGMENTER, Bundle, open_bundle
from dad_edge.data.layouts import list_items
from dad_edge.deploy.build import Target, build
from dad_edge.deploy.calibrate import calibrate
from dad_edge.errors import DeviceError, MissingDependency, ModelError
from dad_edge.gate.images import data_images
from dad_edge.gate.verify import verify
from dad_edge.report.evaluate import bundle_candidate
from dad_edge.runtime import engines
from dad_edge.runtime.cpu import engine_openvino
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.engine_openvino import SHAPES, OpenvinoEngine, openvino_version
from dad_edge.runtime.engines import check_engine, why_not_here
from dad_edge.runtime.inspector import choose_engine, open_inspector
from dad_edge.runtime.opening import open_graph
from dad_edge.runtime.sidecar import Gate, read_sidecar, write_sidecar

pytest.importorskip("openvino", reason="OpenVINO is not installed (extra 'openvino')")

TARGET = Target(runtime="openvino")
TOLERANCE = 1e-5
"""FP32 on both sides; only the order of sums differs."""


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


def drawn(rows: int, channels: int) -> np.ndarray:
    return np.random.default_rng(rows).standard_normal((rows, channels, 32, 32)).astype(np.float32)


@pytest.mark.parametrize(
    ("graph", "source", "channels"), [(DENOISER, "x_t", 3), (SEGMENTER, "pair", 6)]
)
def test_it_answers_as_onnx_runtime_for_every_batch_size(
    bundle: Bundle, graph: str, source: str, channels: int
) -> None:
    engine = OpenvinoEngine(bundle.path / graph, threads=1, rows=2)
    reference = OnnxEngine(bundle.path / graph, threads=1)
    for rows in (2, 6, *range(1, SHAPES + 3)):
        values = drawn(rows, channels)
        found, expected = engine.run({source: values}), reference.run({source: values})
        assert found.keys() == expected.keys()
        for name in expected:
            np.testing.assert_allclose(found[name], expected[name], rtol=0, atol=TOLERANCE)
            assert np.abs(expected[name]).max() > 0.1
    assert len(engine._requests) <= SHAPES


def test_inputs_that_are_views_are_read_as_they_are(bundle: Bundle) -> None:
    engine = OpenvinoEngine(bundle.path / DENOISER, threads=1)
    whole = drawn(4, 6)
    found = engine.run({"x_t": whole[:, 3:]})["noise"].copy()
    again = engine.run({"x_t": np.ascontiguousarray(whole[:, 3:])})["noise"]
    np.testing.assert_array_equal(found, again)


@pytest.mark.parametrize(
    "inputs", [{"other": drawn(2, 3)}, {"x_t": drawn(2, 4)}], ids=["name", "channels"]
)
def test_tensors_that_do_not_fit_are_a_device_error(
    bundle: Bundle, inputs: dict[str, np.ndarray]
) -> None:
    with pytest.raises(DeviceError, match="OpenVINO failed: "):
        OpenvinoEngine(bundle.path / DENOISER, threads=1).run(inputs)


def test_a_file_that_is_no_graph_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "denoiser.onnx"
    path.write_bytes(b"not a graph")
    with pytest.raises(ModelError, match=f"OpenVINO {openvino_version()} refuses {path}: "):
        OpenvinoEngine(path)


def test_engines_of_every_precision_pass_the_gate(bundle: Bundle, tmp_path: Path) -> None:
    write_marked_data(bundle, tmp_path / "data")
    calibrate(bundle, list_items(tmp_path / "data", "train"), false_reject_rate=0.1)
    bundle = open_bundle(bundle.path)
    errors = {}
    for precision in ("fp32", "fp16", "int8"):
        sidecar = build(bundle, precision, TARGET)
        assert sidecar.name == f"cpu-openvino-{openvino_version()}-{precision}"
        report = verify(bundle, sidecar.name, data_images(tmp_path / "data"))
        assert report.judgement.outcome == "passed", report
        assert f"OpenVINO {openvino_version()} CPU {precision}" in report.backend
        errors[precision] = report.judgement.mask_error_max
    assert errors["fp32"] < 1e-5 < errors["int8"] < 0.2


def test_int8_agrees_with_int8_on_onnx_runtime(bundle: Bundle, tmp_path: Path) -> None:
    write_images(tmp_path / "data/train/good", 12)
    calibrate(bundle, list_items(tmp_path / "data", "train"), false_reject_rate=0.1)
    bundle = open_bundle(bundle.path)
    build(bundle, "int8", TARGET)
    folder = bundle.path / ENGINES / f"cpu-openvino-{openvino_version()}-int8"
    for graph, source, channels in ((DENOISER, "x_t", 3), (SEGMENTER, "pair", 6)):
        values = drawn(2, channels).clip(-1, 1)
        (full,) = OnnxEngine(bundle.path / graph, threads=1).run({source: values}).values()
        (expected,) = OnnxEngine(folder / graph, threads=1).run({source: values}).values()
        engine = open_graph("openvino", folder / graph, bundle.model, precision="int8", threads=1)
        (found,) = engine.run({source: values}).values()
        quantization = np.abs(expected - full).mean()
        assert quantization > 1e-4, "INT8 must differ from FP32 for this test to mean anything"
        assert np.abs(found - expected).mean() < quantization / 2


def test_an_engine_of_another_version_is_refused(bundle: Bundle, monkeypatch: Any) -> None:
    name = build(bundle, "fp32", TARGET).name
    assert check_engine(bundle, name).runtime == "openvino"
    monkeypatch.setattr(engines, "openvino_version", lambda: "1.2.3")
    with pytest.raises(ModelError, match=r"built with OpenVINO 20.*, here is 1") as caught:
        check_engine(bundle, name)
    assert "--runtime openvino" in caught.value.next_step


def test_an_accepted_int8_engine_runs_where_none_is_named(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "data/train/good", 12)
    calibrate(bundle, list_items(tmp_path / "data", "train"), false_reject_rate=0.1)
    bundle = open_bundle(bundle.path)
    build(bundle, "fp16", TARGET)
    sidecar = build(bundle, "int8", TARGET)
    folder = bundle.path / ENGINES / sidecar.name
    assert choose_engine(bundle).name is None, "the accuracy gate has not run"
    write_sidecar(folder, replace(sidecar, gate=Gate(passed=False, reason="flips")))
    assert choose_engine(bundle).name is None
    sidecar = accept(bundle, sidecar)
    monkeypatch.setattr("dad_edge.runtime.inspector.prove", lambda *_: outcome(next(times_ms)))
    times_ms = iter((5.0, 8.0))
    assert choose_engine(bundle).name == sidecar.name
    assert "OpenVINO" in open_inspector(bundle, threads=1).backend
    assert "OpenVINO" in bundle_candidate(bundle, threads=1).inspector.backend
    write_sidecar(folder, replace(sidecar, onnx_sha256={}))
    assert choose_engine(bundle).name is None, "it was built from other graphs"
    assert "ONNX Runtime" in open_inspector(bundle, threads=1).backend


def test_without_the_package_its_engines_say_so(bundle: Bundle, monkeypatch: Any) -> None:
    name = build(bundle, "fp32", TARGET).name
    monkeypatch.setattr(engines.importlib.util, "find_spec", lambda module: None)
    assert why_not_here(read_sidecar(bundle, name)) == "package 'openvino' is not installed"
    with pytest.raises(DeviceError, match="'openvino' is not installed"):
        open_inspector(bundle, engine=name)


def test_a_missing_package_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingDependency) as caught:
        engine_openvino.load_openvino()
    assert caught.value.next_step == "pip install 'dad-edge[openvino]'"


ALONE = """
import socket
asked = []

def refuse(*arguments, **options):
    asked.append(arguments)
    raise OSError("no network")

socket.getaddrinfo = socket.socket.connect = refuse
from pathlib import Path
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine, load_openvino
load_openvino()
import sys
from dataclasses import replace
assert "openvino_telemetry" not in sys.modules
OpenvinoEngine(Path(sys.argv[1]), threads=1, rows=2)
assert not asked, asked
"""


def test_it_tells_nobody_and_writes_nothing(bundle: Bundle, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-W", "error", "-c", ALONE, str(bundle.path / DENOISER)]
    environment = {**os.environ, "HOME": str(home), "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert list(home.iterdir()) == []


SIGNALLED = """
import os, signal, sys
from pathlib import Path
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine
first = OpenvinoEngine(Path(sys.argv[1]), threads=1, rows=2)
second = OpenvinoEngine(Path(sys.argv[1]), threads=1, rows=2)
del first
del second
signal.signal(signal.SIGTERM, lambda number, frame: print("noted"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_after_engines_are_gone_is_no_crash(bundle: Bundle) -> None:
    root = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", SIGNALLED, str(bundle.path / DENOISER)]
    environment = {**os.environ, "PYTHONPATH": root}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout) == (0, "noted\n"), done.stderr
