"""`--max-drop` repairs an INT8 engine that one layer ruins, and reports what that costs."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
from onnx import TensorProto
from small_networks import make_network_bundle, sensitive_segmenter, write_images

from dad_edge.bundle import REPORTS, SEGMENTER, Bundle, open_bundle
from dad_edge.cli import main as cli
from dad_edge.data.layouts import list_items
from dad_edge.deploy.build import Target, build
from dad_edge.deploy.calibrate import calibrate
from dad_edge.errors import DataError, UsageError
from dad_edge.gate.images import data_images, demo_images, images_of
from dad_edge.gate.judgement import TOLERANCES, Tolerance
from dad_edge.gate.trade import REPORT, in_words, trade
from dad_edge.gate.verify import verify
from dad_edge.graphs.quantize import typed_graph
from dad_edge.runtime.sidecar import LayerChoice, read_sidecar

CPU = Target(runtime="onnxruntime")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_images(folder / "train/good", 4, 0, 250)
    write_images(folder / "test/good", 10, 0, 120)
    write_images(folder / "test/bright", 10, 150, 250)
    return folder


@pytest.fixture
def bundle(tmp_path: Path, data: Path) -> Bundle:
    made = make_network_bundle(tmp_path / "bundle", sensitive_segmenter())
    calibrate(made, list_items(data, "train"))
    return open_bundle(made.path)


def test_the_layer_that_int8_ruins_stays_float_and_the_gate_passes(
    bundle: Bundle, data: Path
) -> None:
    images = images_of(bundle, data)
    ruined = verify(bundle, build(bundle, "int8", CPU).name, images)
    assert ruined.judgement.outcome == "failed"
    assert ruined.judgement.auroc.drop is not None
    assert ruined.judgement.auroc.drop > 0.3
    worst = ruined.costliest_layers[0]
    assert (worst.network, worst.layer) == (SEGMENTER, "w_sensitive")

    notes: list[str] = []
    found = trade(bundle, images, 0.5, lambda done, total, note="": notes.append(note))
    assert found.choice == LayerChoice(float_layers={SEGMENTER: ("w_sensitive",)}, max_drop=0.5)
    report = json.loads((bundle.path / REPORTS / REPORT).read_text())
    assert [trial["float_layers"] for trial in report["trials"]] == [0, 1]
    assert [trial["passed"] for trial in report["trials"]] == [False, True]
    assert report["int8_layers"] == len(report["ranking"]) - 1
    sizes = {row["engine"]: row["bytes"] for row in report["engines"]}
    assert sizes["int8, all layers"] < sizes["int8, chosen layers"]
    assert all(row["ms_per_frame"] > 0 for row in report["engines"])
    assert report["max_drop_points"] == 0.5
    assert {"cost of every layer", "gate with 1 layers in float"} <= set(notes)
    text = in_words(found)
    assert "kept in float: w_sensitive (1 of 5); AUROC drop 0.00 points" in text

    repaired = build(bundle, "int8", CPU, layers=found.choice)
    assert read_sidecar(bundle, repaired.name).layers == found.choice
    assert verify(bundle, repaired.name, images).judgement.outcome == "passed"


@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
)
def test_the_layers_found_on_the_cpu_hold_for_tensorrt(bundle: Bundle, data: Path) -> None:
    found = trade(bundle, images_of(bundle, data), 0.5)
    target = Target(runtime="tensorrt-rtx", capabilities=("8.9",), frames=(1,))
    engine = build(bundle, "int8", target, layers=found.choice)
    assert read_sidecar(bundle, engine.name).layers == found.choice
    graph = typed_graph(
        bundle, SEGMENTER, "int8", rest="fp16", keep_float=found.choice.float_layers[SEGMENTER]
    )
    types = {weight.name: weight.data_type for weight in graph.graph.initializer}
    assert types["w_sensitive_fp16"] == TensorProto.FLOAT16
    assert types["w_calm_q"] == types["w_quiet_q"] == TensorProto.INT8


def test_the_limit_of_the_engine_is_the_limit_of_its_gate(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With any drop allowed nothing needs to be float, and the gate agrees later on."""
    monkeypatch.setitem(TOLERANCES, "int8", Tolerance(None, None, 0.0, 1.0, 1.0))
    images = images_of(bundle, data)
    found = trade(bundle, images, 100)
    assert found.choice.float_layers == {}
    assert [cost.engine for cost in found.engines] == ["fp32", "int8, all layers"]
    engine = build(bundle, "int8", CPU, layers=found.choice)
    assert verify(bundle, engine.name, images).judgement.outcome == "passed"
    usual = build(bundle, "int8", CPU)
    assert verify(bundle, usual.name, images).judgement.outcome == "failed"


def test_good_parts_alone_choose_the_layers_too(bundle: Bundle, data: Path) -> None:
    found = trade(bundle, images_of(bundle, data / "test" / "good"), 0.5)
    assert found.source == "good with 24 synthetic anomalies"
    assert [trial.passed for trial in found.trials] == [False, True]
    assert found.choice.float_layers == {SEGMENTER: ("w_sensitive",)}


def test_images_that_judge_nothing_choose_nothing(bundle: Bundle, data: Path) -> None:
    images = data_images(data / "test" / "good")
    with pytest.raises(DataError, match="10 different defective images are needed, found none"):
        trade(bundle, images, 0.5)


def test_limits_and_images_that_make_no_sense_are_refused(bundle: Bundle, data: Path) -> None:
    with pytest.raises(UsageError, match="below 0"):
        trade(bundle, data_images(data), -0.1)
    with pytest.raises(UsageError, match="needs images of small, not of the demo product"):
        trade(bundle, demo_images(bundle), 0.5)


def test_the_command_keeps_what_must_be_kept(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(*arguments: object) -> int:
        monkeypatch.setattr("sys.argv", ["dad-edge", "build", *map(str, arguments)])
        try:
            cli.main()
        except SystemExit as stop:
            return int(stop.code or 0)
        return 0

    here = ("--bundle", bundle.path, "--data", data, "--runtime", "onnxruntime", "--json")
    assert run("--precision", "fp16", "--max-drop", "0.5", *here) == 2
    assert "--max-drop chooses INT8 layers" in capsys.readouterr().err
    assert run("--precision", "int8", *here) == 1
    error = capsys.readouterr().err
    assert "the layers that INT8 costs most: w_sensitive," in error
    assert "--max-drop 0.5 --data FOLDER" in error
    assert run("--precision", "int8", "--max-drop", "0.5", *here) == 0
    output = capsys.readouterr()
    assert "kept in float: w_sensitive" in output.err
    built = json.loads(output.out)
    assert built["layers"] == {"float_layers": {SEGMENTER: ["w_sensitive"]}, "max_drop": 0.5}
    assert built["gate"]["passed"] is True
