from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import (
    make_network_bundle,
    sensitive_segmenter,
    write_images,
    write_marked_data,
)

from dad_edge.bundle import ENGINES, REPORTS, Bundle
from dad_edge.deploy.build import Target, build
from dad_edge.errors import ModelError
from dad_edge.files import sha256_of
from dad_edge.gate.images import data_images, demo_images, images_of
from dad_edge.gate.judgement import TOLERANCES, Tolerance
from dad_edge.gate.report import report_json
from dad_edge.gate.table import gate_table, rejection
from dad_edge.gate.verify import next_step, open_reference, runnable, verify
from dad_edge.runtime.inspector import choose_engine
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.sidecar import read_sidecar, write_sidecar

CPU = Target(runtime="onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


@pytest.fixture
def data(bundle: Bundle, tmp_path: Path) -> Path:
    return write_marked_data(bundle, tmp_path / "data")


def _spoil(bundle: Bundle, name: str, factor: float, weights: str = "b_head") -> None:
    """Change the engine's segmenter so that its sidecar still fits it."""
    path = bundle.path / ENGINES / name / "segmenter.onnx"
    model = onnx.load(path)
    for weight in model.graph.initializer:
        if weight.name.startswith(weights):
            old = numpy_helper.to_array(weight)
            values = (old * factor if weights == "w_head" else old + factor).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(model, path)
    sidecar = path.with_name("engine.json")
    mapping = json.loads(sidecar.read_text())
    mapping["files"]["segmenter.onnx"]["sha256"] = sha256_of(path)
    sidecar.write_text(json.dumps(mapping))


def test_a_faithful_engine_passes_and_says_so(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp16", CPU).name
    seen: list[tuple[float, float]] = []
    report = verify(
        bundle, name, data_images(data), lambda done, total, note="": seen.append((done, total))
    )
    judged = report.judgement
    assert judged.outcome == "passed", judged
    assert 0 < judged.mask_error_max < 2e-3
    assert judged.auroc.drop == 0
    assert judged.auroc.undefined is judged.pro.undefined is report.next_step is None
    assert seen[-1] == (20, 20)
    written = json.loads((bundle.path / REPORTS / name / "verify.json").read_text())
    assert written == report_json(report)
    assert read_sidecar(bundle, name).gate.outcome == "passed"
    picture = cv2.imread(str(bundle.path / REPORTS / name / "worst.png"))
    assert picture.shape[0] > 5 * 120, "five rows"
    caption = str(gate_table([report]).caption)
    assert "20 images of data" in caption
    assert "not defined" not in caption
    assert "FP16" not in next_step("fp16", name)


def test_an_engine_that_differs_is_rejected_and_no_longer_opens(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, 0.01)
    judged = verify(bundle, name, data_images(data)).judgement
    assert judged.outcome == "failed"
    assert 1e-3 < judged.mask_error_max < 4e-3, "the slope of the sigmoid is 1/4 at most"
    assert any("mask error" in failure for failure in judged.failures)
    with pytest.raises(ModelError, match="rejected by the accuracy gate: mask error"):
        choose_engine(bundle, name)
    again = verify(bundle, name, data_images(data))
    assert again.judgement.outcome == "failed", "it can be judged again"


def test_verdicts_that_flip_are_listed_and_limited(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the scores stays as it is, so that AUROC and PRO see nothing."""
    monkeypatch.setitem(TOLERANCES, "fp32", Tolerance(None, None, 1.0, 1.0))
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, -1.5)
    report = verify(bundle, name, data_images(data))
    flips = report_json(report)["verdict_flips"]
    assert len(flips) == 20
    assert all(flip["engine"] <= 0.5 < flip["reference"] for flip in flips)
    assert report.judgement.failures == (
        "verdicts of 10 of 10 good images flip, above 5 %",
        "verdicts of 10 of 10 defective images flip, above 5 %",
    )


def test_scores_that_are_not_numbers_fail(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, float("nan"))
    judged = verify(bundle, name, data_images(data)).judgement
    assert judged.outcome == "failed"
    assert "not finite: good/000.png" in judged.failures[0]


def test_parts_of_another_product_judge_nothing(bundle: Bundle) -> None:
    """As `dad-edge build --precision int8` does for an own product where no data is named."""
    name = build(bundle, "fp16", CPU).name
    report = verify(bundle, name, demo_images(bundle, 1))
    assert report.judgement.outcome == "not judged"
    assert report.judgement.auroc.drop is None
    assert report_json(report)["passed"] is None
    assert read_sidecar(bundle, name).gate.outcome == "not judged"
    assert "another product than the demo product" in read_sidecar(bundle, name).gate.reason
    assert "AUROC and PRO are not defined: the bundle was made" in str(gate_table([report]).caption)
    assert f"the accuracy gate cannot judge {name}: AUROC and PRO are not" in rejection(report)
    assert report.next_step is not None
    assert f"'dad-edge verify --engine {name} --data FOLDER' with 10 or more" in report.next_step
    assert choose_engine(bundle).name is None


def test_good_parts_alone_judge_an_engine_by_synthetic_anomalies(
    bundle: Bundle, tmp_path: Path
) -> None:
    bundle = make_network_bundle(tmp_path / "following", sensitive_segmenter())
    images = images_of(bundle, write_images(tmp_path / "parts", 12, 0, 40))
    name = build(bundle, "fp32", CPU).name
    judged = verify(bundle, name, images).judgement
    assert judged.outcome == "passed", judged
    assert judged.auroc.drop == judged.pro.drop == 0
    assert judged.source == "parts with 24 synthetic anomalies"
    _spoil(bundle, name, -1.0, "w_head")
    judged = verify(bundle, name, images).judgement
    assert judged.outcome == "failed"
    assert judged.auroc.drop is not None
    assert judged.auroc.drop > 0.3


def test_a_reference_without_numbers_judges_nothing(
    bundle: Bundle, data: Path, tmp_path: Path
) -> None:
    name = build(bundle, "fp16", CPU).name
    mute = sensitive_segmenter()
    for weight in mute.graph.initializer:
        if weight.name == "b_head":
            weight.CopyFrom(numpy_helper.from_array(np.full(1, np.nan, np.float32), weight.name))
    broken = open_graphs(make_network_bundle(tmp_path / "broken", mute))
    report = verify(bundle, name, data_images(data), reference=broken)
    assert report.judgement.outcome == "not judged"
    assert "FP32 itself gives no finite scores: good/000.png" in rejection(report)
    assert "train it longer" in str(report.next_step)


def test_a_bundle_without_engines_says_how_to_make_one(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="no engine that can run here") as caught:
        runnable(bundle)
    assert "dad-edge build" in caught.value.next_step
    name = build(bundle, "fp32", CPU).name
    assert runnable(bundle) == [name]


def test_a_drop_of_pro_is_judged(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spoilt engine reverses the order of the pixels, which the image scores need not show."""
    name = build(bundle, "fp32", CPU).name
    monkeypatch.setitem(TOLERANCES, "fp32", Tolerance(None, None, 1.0, 0.01, 1.0))
    faithful = verify(bundle, name, data_images(data)).judgement
    assert faithful.outcome == "passed"
    assert faithful.pro.drop == 0
    _spoil(bundle, name, -1.0, "w_head")
    judged = verify(bundle, name, data_images(data)).judgement
    assert judged.pro.drop is not None
    assert judged.pro.drop > 0.3
    assert judged.failures == (f"PRO drop {judged.pro.drop:.2g} is above 0.01",)


def test_a_rejected_fp16_engine_names_its_layers(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(0.0, 0.0, 0.0, 0.0))
    report = verify(bundle, build(bundle, "fp16", CPU).name, data_images(data))
    layers = report_json(report)["costliest_layers"]
    assert len(layers) == 5
    assert {layer["network"] for layer in layers} == {"denoiser.onnx", "segmenter.onnx"}
    assert all(0 < layer["own"] <= layer["error"] < 0.01 for layer in layers)
    assert f"the layers that FP16 costs most: {layers[0]['layer']}, " in rejection(report)
    assert report.next_step is not None
    assert report.next_step.startswith("use 'dad-edge build --precision fp32'; ")
    assert f"'dad-edge verify --layers --engine {report.engine}'" in report.next_step


def test_a_checkpoint_of_other_settings_is_no_reference(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text("")
    with pytest.raises(ModelError, match="other settings than"):
        open_reference(bundle, tmp_path / "run")


def test_an_engine_that_is_built_again_meanwhile_keeps_its_own_sidecar(
    bundle: Bundle, data: Path
) -> None:
    sidecar = build(bundle, "fp32", CPU)
    folder = bundle.path / ENGINES / sidecar.name
    newer = replace(sidecar, build_seconds=sidecar.build_seconds + 1)

    def rebuild(done: float, total: float, note: str = "") -> None:
        write_sidecar(folder, newer)

    with pytest.raises(ModelError, match="was built again while it was judged"):
        verify(bundle, sidecar.name, data_images(data), rebuild)
    assert read_sidecar(bundle, sidecar.name) == newer
