from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import make_network_bundle, write_images

from dad_edge.bundle import ENGINES, REPORTS, Bundle
from dad_edge.data.demo import PRODUCT
from dad_edge.deploy.build import Target, build
from dad_edge.errors import DataError, ModelError
from dad_edge.files import sha256_of
from dad_edge.gate.images import Images, data_images, demo_images
from dad_edge.gate.table import gate_table, rejection
from dad_edge.gate.verify import TOLERANCES, Tolerance, next_step, open_reference, runnable, verify
from dad_edge.runtime.inspector import choose_engine, open_inspector
from dad_edge.runtime.sidecar import read_sidecar

CPU = Target(runtime="onnxruntime")


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_images(tmp_path / "data/train/good", 1, 0, 80)
    write_images(tmp_path / "data/test/good", 3, 0, 80)
    write_images(tmp_path / "data/test/spot", 3, 150, 256)
    return tmp_path / "data"


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
    seen: list[tuple[int, int]] = []
    report = verify(bundle, name, data_images(data), lambda done, n: seen.append((done, n)))
    assert report["passed"]
    assert 0 < report["mask_error_max"] < 2e-3
    assert report["auroc_drop"] == 0
    assert seen[-1] == (6, 6)
    assert json.loads((bundle.path / REPORTS / name / "verify.json").read_text()) == report
    assert read_sidecar(bundle, name).gate.passed is True
    picture = cv2.imread(str(bundle.path / REPORTS / name / "worst.png"))
    assert picture.shape[0] > 5 * 120, "five rows"
    assert "6 images of data" in str(gate_table([report]).caption)
    assert "FP16" not in next_step("fp16", name)


def test_an_engine_that_differs_is_rejected_and_no_longer_opens(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, 0.01)
    report = verify(bundle, name, data_images(data))
    assert not report["passed"]
    assert 1e-3 < report["mask_error_max"] < 4e-3, "the slope of the sigmoid is 1/4 at most"
    assert any("mask error" in failure for failure in report["failures"])
    with pytest.raises(ModelError, match="rejected by the accuracy gate: mask error"):
        choose_engine(bundle, name)
    assert verify(bundle, name, data_images(data))["passed"] is False, "it can be judged again"


def test_verdicts_that_flip_are_listed(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, -40.0)
    flips = verify(bundle, name, data_images(data))["verdict_flips"]
    assert flips
    assert all(flip["engine"] <= 0.5 < flip["reference"] for flip in flips)


def test_scores_that_are_not_numbers_fail(bundle: Bundle, data: Path) -> None:
    name = build(bundle, "fp32", CPU).name
    _spoil(bundle, name, float("nan"))
    report = verify(bundle, name, data_images(data))
    assert not report["passed"]
    assert "not finite: good/000.png" in report["failures"][0]


def test_the_auroc_of_another_product_is_not_judged(bundle: Bundle) -> None:
    name = build(bundle, "fp16", CPU).name
    images = demo_images(bundle)
    first_two = Images(images.source, images.ranked, images.kinds[:2], images.load)
    report = verify(bundle, name, first_two)
    assert report["auroc_drop"] is None
    assert report["passed"]
    assert "--data" in str(gate_table([report]).caption)


def test_the_auroc_of_the_demo_product_is_judged_on_its_own_bundle(bundle: Bundle) -> None:
    trained_on_it = replace(bundle, manifest=replace(bundle.manifest, class_name=PRODUCT))
    assert demo_images(trained_on_it).ranked
    assert not demo_images(bundle).ranked


def test_a_folder_of_good_images_will_do(tmp_path: Path) -> None:
    images = data_images(write_images(tmp_path / "good", 2))
    assert [sample.defective for sample in images.read()] == [False, False]
    with pytest.raises(DataError, match="does not exist"):
        data_images(tmp_path / "absent")


def test_a_bundle_without_engines_says_how_to_make_one(bundle: Bundle) -> None:
    with pytest.raises(ModelError, match="no engine that can run here") as caught:
        runnable(bundle)
    assert "dad-edge build" in caught.value.next_step
    name = build(bundle, "fp32", CPU).name
    assert runnable(bundle) == [name]


def test_a_drop_of_pro_is_judged_where_masks_exist(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The spoilt engine reverses the order of the pixels, which the image scores need not show."""
    folder = data / "ground_truth/spot"
    folder.mkdir(parents=True)
    for index, score_map in enumerate(_maps(bundle, data)):
        mask = (score_map > np.quantile(score_map, 0.9)).astype(np.uint8) * 255
        cv2.imwrite(str(folder / f"{index:03}_mask.png"), cv2.resize(mask, (48, 48)))
    name = build(bundle, "fp32", CPU).name
    monkeypatch.setitem(TOLERANCES, "fp32", Tolerance(None, None, 1.0, 0.01))
    faithful = verify(bundle, name, data_images(data))
    assert faithful["passed"]
    assert faithful["pro_drop"] == 0
    assert faithful["pro_reference"] > 0.5
    _spoil(bundle, name, -1.0, "w_head")
    report = verify(bundle, name, data_images(data))
    assert report["pro_drop"] > 0.3
    assert report["failures"] == [f"PRO drop {report['pro_drop']:.2g} is above 0.01"]


def _maps(bundle: Bundle, data: Path) -> list[np.ndarray]:
    inspector = open_inspector(bundle)
    return [
        inspector.inspect(sample.frame).score_map
        for sample in data_images(data).read()
        if sample.defective
    ]


def test_a_rejected_fp16_engine_names_its_layers(
    bundle: Bundle, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(0.0, 0.0, 0.0, 0.0))
    report = verify(bundle, build(bundle, "fp16", CPU).name, data_images(data))
    layers = report["costliest_layers"]
    assert len(layers) == 5
    assert {layer["network"] for layer in layers} == {"denoiser.onnx", "segmenter.onnx"}
    assert all(0 < layer["own"] <= layer["error"] < 0.01 for layer in layers)
    assert f"the layers that FP16 costs most: {layers[0]['layer']}, " in rejection(report)
    assert report["next_step"] == "use 'dad-edge build --precision fp32'"


def test_a_checkpoint_of_other_settings_is_no_reference(bundle: Bundle, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    (tmp_path / "run").mkdir()
    (tmp_path / "run/recipe.toml").write_text("")
    with pytest.raises(ModelError, match="other settings than"):
        open_reference(bundle, tmp_path / "run")
