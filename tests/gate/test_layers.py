"""Engines beside FP32 layer by layer, through the real Polygraphy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import make_network_bundle, small_segmenter, write_images

pytest.importorskip("polygraphy", reason="Polygraphy is not installed (extra 'debug')")

from dad_edge.bundle import Bundle, open_bundle
from dad_edge.config import Precision, RuntimeName
from dad_edge.data.layouts import list_items
from dad_edge.deploy.build import build, find_target
from dad_edge.deploy.calibrate import calibrate
from dad_edge.errors import UsageError
from dad_edge.gate.layers import ERRORS, Layers, compare_layers
from dad_edge.gate.table import layers_table
from dad_edge.runtime.sidecar import read_sidecar

FRAME = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
LAYERS = {"w_head", "w_merge", "w_middle", "w_stem"}


def _compare(bundle: Bundle, runtime: RuntimeName, precision: Precision) -> Layers:
    sidecar = build(bundle, precision, find_target(runtime=runtime))
    return compare_layers(bundle, sidecar, FRAME, bundle.path / "layers")


def test_fp16_errs_a_little_in_every_layer(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    found = _compare(bundle, "onnxruntime", "fp16")
    assert {e.layer for e in found.errors if e.network == "denoiser.onnx"} == LAYERS
    assert {e.layer for e in found.errors if e.network == "segmenter.onnx"} == LAYERS - {"w_merge"}
    assert all(e.error is not None and 0 < e.error < 5e-3 for e in found.errors)
    owns = [e.own for e in found.errors]
    assert owns == sorted(owns, reverse=True)
    kept = json.loads((tmp_path / "bundle" / "layers" / ERRORS).read_text())
    assert kept["layers"][0]["layer"] == found.errors[0].layer
    assert layers_table(found).row_count == 5


def test_openvino_in_int8_errs_more(tmp_path: Path) -> None:
    pytest.importorskip("openvino", reason="OpenVINO is not installed (extra 'openvino')")
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    calibrate(bundle, list_items(write_images(tmp_path / "good", 4), "train"))
    bundle = open_bundle(bundle.path)
    exact, rough = (_compare(bundle, "openvino", p) for p in ("fp32", "int8"))
    of_exact, of_rough = (max(e.error or 0.0 for e in f.errors) for f in (exact, rough))
    assert of_exact < 1e-5
    assert 1e-3 < of_rough < 0.5


def test_the_first_layer_that_leaves_the_range_comes_first(tmp_path: Path) -> None:
    segmenter = small_segmenter()
    for weight in segmenter.graph.initializer:
        if weight.name == "w_middle":
            values = numpy_helper.to_array(weight) * np.float32(60000)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    found = _compare(make_network_bundle(tmp_path / "bundle", segmenter), "onnxruntime", "fp16")
    worst = found.errors[0]
    assert (worst.network, worst.layer, worst.error) == ("segmenter.onnx", "w_middle", None)
    assert (
        json.loads((tmp_path / "bundle" / "layers" / ERRORS).read_text())["layers"][0]["error"]
        is None
    )


def test_the_commands_that_are_named_run(tmp_path: Path) -> None:
    bundle = make_network_bundle(tmp_path / "a bundle", small_segmenter())
    found = _compare(bundle, "onnxruntime", "fp16")
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    assert len(found.commands) == 2
    for command in found.commands:
        done = subprocess.run(
            command,
            shell=True,
            env=tools,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr


RTX = """
import sys
import onnx
from polygraphy import config
config.USE_TENSORRT_RTX = True
from polygraphy.backend.trt import EngineBytesFromNetwork, Profile
from polygraphy.backend.tensorrt_rtx import CreateConfigRTX
from dad_edge.gate.layers import tensorrt_network
graph = onnx.load(sys.argv[1])
(source,) = graph.graph.input
shape = (2, *[d.dim_value for d in source.type.tensor_type.shape.dim[1:]])
profile = Profile().add(source.name, shape, shape, shape)
created = CreateConfigRTX(profiles=[profile], compute_capabilities=[(8, 9)])
print(len(bytes(EngineBytesFromNetwork(tensorrt_network(graph), config=created)())))
"""


@pytest.mark.tensorrt
def test_the_real_builder_takes_the_marked_graphs(tmp_path: Path) -> None:
    """On a machine without a GPU the plan can be built but not run."""
    pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed")
    from dad_edge.gate.layer_errors import layers_of, with_outputs
    from dad_edge.graphs.engine import engine_graph
    from dad_edge.graphs.quantize import load_graph

    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    for network in ("denoiser.onnx", "segmenter.onnx"):
        layers = layers_of(load_graph(bundle.path / network))
        graph = with_outputs(engine_graph(bundle, network, "fp16", "tensorrt-rtx"), layers)
        assert [value.name for value in graph.graph.output] == list(layers)
        onnx.save(graph, tmp_path / network)
        done = subprocess.run(
            [sys.executable, "-c", RTX, str(tmp_path / network)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout.split()[-1]) > 1000


def test_one_process_has_one_of_both_tensorrt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Polygraphy keeps the one that it imported first, and would compare with the wrong one."""
    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    sidecar = replace(
        build(bundle, "fp16", find_target(runtime="onnxruntime")), runtime="tensorrt-rtx"
    )
    monkeypatch.setitem(sys.modules, "polygraphy.backend.trt", ModuleType("trt"))
    monkeypatch.setattr("polygraphy.config.USE_TENSORRT_RTX", False)
    with pytest.raises(UsageError, match="not one after the other") as caught:
        compare_layers(bundle, sidecar, FRAME, tmp_path / "layers")
    assert f"--engine {sidecar.name}" in caught.value.next_step


def test_an_engine_is_compared_by_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import dad_edge.__main__ as cli

    bundle = make_network_bundle(tmp_path / "bundle", small_segmenter())
    sidecar = build(bundle, "fp16", find_target(runtime="onnxruntime"))
    data = write_images(tmp_path / "good", 2)
    words = ["dad-edge", "verify", "--layers", "--bundle", str(bundle.path), "--data", str(data)]
    monkeypatch.setattr(sys, "argv", [*words, "--json"])
    cli.main()
    (engine,) = json.loads(capsys.readouterr().out)["engines"]
    assert engine["engine"] == sidecar.name
    assert len(engine["layers"]) == 7
    assert read_sidecar(bundle, sidecar.name).gate == sidecar.gate
