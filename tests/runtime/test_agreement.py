"""Every backend computes what PyTorch computes in FP32: same frames, same noise, same seed.

One matrix: runtime × fusion × precision, with the tolerances of the accuracy gate. INT8 has none
there, because what it may cost is decided by figures on real images; here it must stay near.
Cells that need a GPU are marked `gpu` and skip with the reason where there is none.
"""

from __future__ import annotations

import copy
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import write_images

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")

from exported_run import FUSIONS, exported_run, make_run  # noqa: E402

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle, open_bundle  # noqa: E402
from dad_edge.config import Precision, RuntimeName  # noqa: E402
from dad_edge.data.layouts import list_items  # noqa: E402
from dad_edge.deploy.build import build, find_target  # noqa: E402
from dad_edge.deploy.calibrate import calibrate  # noqa: E402
from dad_edge.errors import DeviceError, MissingDependency  # noqa: E402
from dad_edge.gate.judgement import TOLERANCES  # noqa: E402
from dad_edge.graphs.engine import engine_graph  # noqa: E402
from dad_edge.image.preprocess import read_frame  # noqa: E402
from dad_edge.model import philox  # noqa: E402
from dad_edge.model.detector import Detector  # noqa: E402
from dad_edge.runtime.cpu.engine_torch import torch_inspector  # noqa: E402
from dad_edge.runtime.gpu.engine_torch import (  # noqa: E402
    TorchPrecision,
    fused_torch_inspector,
)
from dad_edge.runtime.inspection import Inspector  # noqa: E402
from dad_edge.runtime.inspector import open_inspector  # noqa: E402
from dad_edge.runtime.opening import open_graphs  # noqa: E402
from dad_edge.runtime.seams import Inspection  # noqa: E402

SEED = 5
PRECISIONS: tuple[Precision, ...] = ("fp32", "fp16", "int8")
INT8_MASK, INT8_SCORE = 0.06, 0.06
"""Largest mean difference of a score map, and of a score; other weights differ by more."""


@dataclass(frozen=True, slots=True)
class Case:
    """A detector, its bundle with calibration, and what PyTorch in FP32 finds on the frames."""

    detector: Detector
    bundle: Bundle
    frames: list[np.ndarray]
    expected: list[Inspection]


@pytest.fixture(scope="module", params=FUSIONS)
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp(request.param)
    exported, detector, _ = exported_run(request.param)
    shutil.copytree(exported, folder / "bundle")
    bundle = open_bundle(folder / "bundle")
    images = write_images(folder / "data", 16)
    calibrate(bundle, list_items(images, "train"), false_reject_rate=0.1)
    frames = [read_frame(path) for path in sorted(images.iterdir())[:5]]
    frames.append(frames[0][:17, :40])
    expected = torch_inspector(detector, seed=SEED).inspect_batch(frames)
    return Case(detector, open_bundle(bundle.path), frames, expected)


def errors_of(case: Case, inspector: Inspector) -> tuple[list[float], list[float], list[float]]:
    """Of every frame: largest and mean difference of the score map, difference of the score."""
    found = inspector.inspect_batch(case.frames)
    maps = [
        np.abs(one.score_map - other.score_map)
        for one, other in zip(found, case.expected, strict=True)
    ]
    scores = [abs(one.score - other.score) for one, other in zip(found, case.expected, strict=True)]
    return [float(d.max()) for d in maps], [float(d.mean()) for d in maps], scores


def assert_agrees(case: Case, inspector: Inspector, precision: Precision) -> None:
    largest, mean, scores = errors_of(case, inspector)
    tolerance = TOLERANCES[precision]
    if tolerance.mask is None or tolerance.score is None:
        assert max(mean) < INT8_MASK
        assert max(scores) < INT8_SCORE
    else:
        assert max(largest) <= tolerance.mask
        assert max(scores) <= tolerance.score


def open_cell(case: Case, runtime: RuntimeName, precision: Precision) -> Inspector:
    """The engine of a cell, built and opened, or the reason why it cannot be."""
    try:
        target = find_target(runtime)
        name = build(case.bundle, precision, target).name
        return open_inspector(case.bundle, engine=name, seed=SEED, threads=1)
    except (MissingDependency, DeviceError) as error:
        pytest.skip(error.message)


def test_pytorch_in_the_inspector_is_the_detector_itself(case: Case) -> None:
    model = case.detector.config
    size, count = model.image_size, len(case.frames)
    levels = range(len(model.lambdas))
    noise = [
        philox.normal((3, size, size), seed=SEED, lambda_index=level, frame_counter=0)
        for level in levels
    ]
    images = torch.from_numpy(np.stack([result.image for result in case.expected]))
    stacked = torch.from_numpy(np.stack(noise))[:, None].expand(-1, count, -1, -1, -1)
    with torch.inference_mode():
        masks, _ = case.detector(images, stacked)
        exact, _ = copy.deepcopy(case.detector).double()(images.double(), stacked.double())
    # The order of sums depends on the batch and on the CPU's instructions, so that two results in
    # float32 are equally far from the one in float64, and no fixed figure says how far.
    rounding = float((masks - exact).abs().max())
    assert 0 < rounding < 1e-4
    for row, result in enumerate(case.expected):
        assert np.abs(result.score_map - exact[row, 0].numpy()).max() <= 4 * rounding


def test_the_graphs_of_the_bundle_agree(case: Case) -> None:
    assert_agrees(case, open_graphs(case.bundle, seed=SEED, threads=1), "fp32")


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_cpu_engines_agree(case: Case, runtime: RuntimeName, precision: Precision) -> None:
    inspector = open_cell(case, runtime, precision)
    assert precision in inspector.backend
    assert_agrees(case, inspector, precision)


@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_the_graphs_that_tensorrt_gets_agree(
    case: Case, tmp_path: Path, precision: Precision
) -> None:
    """Their arithmetic without a GPU; ONNX Runtime rounds behind every operator as they say."""
    shutil.copytree(case.bundle.path, tmp_path / "bundle")
    for name in (DENOISER, SEGMENTER):
        graph = engine_graph(case.bundle, name, precision, "tensorrt")
        (tmp_path / "bundle" / name).write_bytes(graph.SerializeToString())
    bundle = replace(case.bundle, path=tmp_path / "bundle")
    assert_agrees(case, open_graphs(bundle, seed=SEED, threads=1), precision)


@pytest.mark.gpu
@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
def test_cuda_steps_with_tensorrt_agree(
    case: Case, runtime: RuntimeName, precision: Precision
) -> None:
    with open_cell(case, runtime, precision) as inspector:
        assert "CUDA" in inspector.backend
        assert_agrees(case, inspector, precision)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_cuda_steps_with_pytorch_agree(case: Case, precision: TorchPrecision) -> None:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device")
    detector = copy.deepcopy(case.detector)  # it takes the precision
    with fused_torch_inspector(detector, precision=precision, seed=SEED) as inspector:
        assert "CUDA" in inspector.backend
        assert_agrees(case, inspector, precision)


@pytest.mark.gpu
def test_pytorch_on_a_gpu_agrees(case: Case) -> None:
    if not torch.cuda.is_available():
        pytest.skip("PyTorch finds no CUDA device")
    detector = copy.deepcopy(case.detector)  # it moves to the GPU
    assert_agrees(case, torch_inspector(detector, seed=SEED, device="cuda"), "fp32")


def test_other_weights_do_not_agree(case: Case, tmp_path: Path) -> None:
    other = torch_inspector(make_run(tmp_path, case.detector.config, seed=1), seed=SEED)
    _, mean, _ = errors_of(case, other)
    assert min(mean) > INT8_MASK


def test_the_maps_depend_on_the_image_and_the_place(case: Case) -> None:
    """Else every backend would agree with every other."""
    maps = np.stack([result.score_map for result in case.expected])
    assert maps.std(axis=0).mean() > INT8_MASK
    assert maps.std(axis=(1, 2)).min() > INT8_MASK
