"""FP16 holds every activation of the demo bundle on extreme images; other bundles are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from small_networks import make_network_bundle, small_segmenter

from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, Bundle, open_bundle
from dad_edge.deploy.build import Target, build
from dad_edge.errors import ModelError
from dad_edge.gate.sensitivity import inspector_of
from dad_edge.graphs.fp16_range import activation_peaks, check_fp16_range, extreme_frames
from dad_edge.graphs.quantize import LARGEST_FP16, to_fp16


@pytest.fixture(scope="module")
def demo() -> Bundle:
    return open_bundle(PACKAGED)


def test_the_demo_bundle_stays_far_inside_fp16_on_extreme_images(demo: Bundle) -> None:
    peaks = activation_peaks(demo)
    assert len(peaks) > 400, "every activation of both networks"
    largest = next(iter(peaks.values()))[0]
    assert largest == max(peak for peak, _ in peaks.values())
    assert 1 < largest < LARGEST_FP16 / 100
    check_fp16_range(demo)


def test_fp16_graphs_give_numbers_on_extreme_images(demo: Bundle) -> None:
    graphs = {n: onnx.load(demo.path / n) for n in (DENOISER, SEGMENTER)}
    half = inspector_of(demo, {name: to_fp16(graph) for name, graph in graphs.items()})
    plain = inspector_of(demo, graphs)
    for name, frame in extreme_frames(demo.model.image_size).items():
        found = half.inspect(frame)
        assert np.isfinite(found.score_map).all(), name
        assert np.isfinite(found.restored).all(), name
        assert found.verdict in ("good", "defect"), name
        # The gate's own tolerance of FP16.
        assert np.abs(found.score_map - plain.inspect(frame).score_map).max() < 2e-2, name


def test_extreme_frames_reach_both_ends_and_are_the_same_each_time() -> None:
    frames = extreme_frames(32)
    assert {int(f.min()) for f in frames.values()} == {0, 255}
    assert {int(f.max()) for f in frames.values()} == {0, 255}
    assert frames["one hot pixel"].sum() == 3 * 255
    assert frames["fine checkerboard"].mean() == pytest.approx(127.5)
    again = extreme_frames(32)
    assert all(np.array_equal(frames[name], again[name]) for name in frames)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_a_bundle_that_overflows_fp16_is_refused_by_name(
    tmp_path: Path, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.deploy.build._runtime_version", lambda runtime: "1.0")
    model = small_segmenter()
    for weight in model.graph.initializer:
        if weight.name == "w_middle":
            values = numpy_helper.to_array(weight) * np.float32(4e4)
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    bundle = make_network_bundle(tmp_path / "bundle", model)
    with pytest.raises(ModelError, match=r"FP16 is not safe: segmenter\.onnx: ") as caught:
        build(bundle, precision, Target(runtime="tensorrt-rtx", capabilities=("8.9",)))
    assert "--precision fp32" in caught.value.next_step


def test_a_bundle_whose_activations_are_no_numbers_is_refused(tmp_path: Path) -> None:
    model = small_segmenter()
    bias = next(w for w in model.graph.initializer if w.name == "b_middle")
    bias.CopyFrom(numpy_helper.from_array(np.full(8, np.nan, np.float32), "b_middle"))
    with pytest.raises(ModelError, match="reaches nan"):
        check_fp16_range(make_network_bundle(tmp_path / "bundle", model))
