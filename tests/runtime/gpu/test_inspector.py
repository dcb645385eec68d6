"""The fused CUDA runtime on a fake device against NumPy and ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import pytest
from device_engine import OnnxOnDevice
from fake_cuda import FakeDriver
from small_networks import make_network_bundle
from tiny import TINY

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.config import FramingConfig, ModelConfig
from dad_edge.errors import DataError, DeviceError, ModelError
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.inspector import FusedInspector, keep_mask
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.inspection import STAGES
from dad_edge.runtime.seams import Element, Inspection

pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

GUIDED = replace(TINY, fusion="norm_guided", lambdas=(200, 400))
TILED = replace(TINY, framing=FramingConfig(tiles=(2, 2), keep_aspect=True))
SEED = 5
SCORE, MAP = 2e-6, 3e-6
"""FP32 on both sides: the kernels' normals and divisions differ in the last places."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_network_bundle(tmp_path_factory.mktemp("fused") / "bundle")


Open = Callable[..., FusedInspector]


@pytest.fixture
def fused(bundle: Bundle, driver: FakeDriver) -> Iterator[Open]:
    """Opens fused inspectors; at the end all have given everything back."""
    opened = []

    def open_fused(
        model: ModelConfig = TINY,
        element: Element = "f32",
        max_rows: int | None = None,
        **options: Any,
    ) -> FusedInspector:
        device, side = Device(), model.image_size
        keep = keep_mask(model, options.get("ignore"))
        ops = CudaOps(device, model, alpha_bar(model), SEED, element=element, keep=keep)
        shapes = {DENOISER: (3, 3, side), SEGMENTER: (6, 1, side)}
        names = {DENOISER: ("x_t", "noise"), SEGMENTER: ("pair", "mask")}
        engines = [
            OnnxOnDevice(
                driver, bundle.path / graph, shapes[graph], names[graph], element, max_rows
            )
            for graph in (DENOISER, SEGMENTER)
        ]
        opened.append((FusedInspector(device, ops, *engines, 0.5, **options), engines))
        return opened[-1][0]

    yield open_fused
    for inspector, engines in opened:
        inspector.close()
        assert all(engine.closed for engine in engines)
    assert driver.left() == {}
    assert driver.retained == 0


def alpha_bar(model: ModelConfig) -> list[float]:
    from dad_edge.model.diffusion import alpha_bar_table

    table = alpha_bar_table(model.schedule)
    return [float(table[step]) for step in model.lambdas]


def reference(bundle: Bundle, model: ModelConfig = TINY, **options: Any) -> HostInspector:
    ops = NumpyOps(model, alpha_bar(model), SEED)
    engines = [OnnxEngine(bundle.path / graph, threads=1) for graph in (DENOISER, SEGMENTER)]
    return HostInspector(ops, *engines, 0.5, **options)


def frames_of(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def assert_same(
    found: list[Inspection], expected: list[Inspection], score: float = SCORE, pixel: float = MAP
) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert one.score == pytest.approx(other.score, abs=score)
        assert one.verdict == other.verdict
        np.testing.assert_allclose(one.score_map, other.score_map, atol=pixel)
        np.testing.assert_allclose(one.heat.astype(int), other.heat, atol=1 + 255 * pixel)
        np.testing.assert_allclose(one.image, other.image, atol=max(pixel, 1e-5))
        np.testing.assert_allclose(one.restored, other.restored, atol=max(10 * pixel, 2e-5))


@pytest.mark.parametrize("model", [TINY, GUIDED], ids=["average", "norm_guided"])
@pytest.mark.parametrize("integrated", [False, True])
def test_it_is_the_reference(
    fused: Open, bundle: Bundle, driver: FakeDriver, model: ModelConfig, integrated: bool
) -> None:
    driver.attributes["INTEGRATED"] = int(integrated)
    inspector, expected = fused(model), reference(bundle, model)
    one, two, three = frames_of((48, 64), (20, 31), (40, 40))
    for frames in ([one], [one, two, three], [two], [one], [two, two]):
        assert_same(inspector.inspect_batch(frames), expected.inspect_batch(frames))


@pytest.mark.parametrize("model", [TINY, GUIDED], ids=["average", "norm_guided"])
def test_half_tensors_stay_within_their_precision(
    fused: Open, bundle: Bundle, model: ModelConfig
) -> None:
    frames = frames_of((48, 64), (20, 31))
    found = fused(model, element="f16").inspect_batch(frames)
    assert_same(found, reference(bundle, model).inspect_batch(frames), score=5e-3, pixel=2e-2)


def test_a_frame_is_one_copy_in_one_launch_and_one_copy_out(
    fused: Open, driver: FakeDriver
) -> None:
    inspector = fused()
    [frame] = frames_of((48, 64))
    inspector.inspect(frame)
    driver.calls.clear()
    for _ in range(3):
        inspection = inspector.inspect(frame)
    assert driver.calls["cuMemcpyHtoDAsync"] == driver.calls["cuGraphLaunch"] == 3
    assert driver.calls["cuEventSynchronize"] == 3
    assert driver.calls["cuLaunchKernel"] == driver.calls["cuMemcpyDtoHAsync"] == 0
    assert driver.allocations() == 0
    assert tuple(inspection.stage_ms) == STAGES
    assert all(ms > 0 for ms in inspection.stage_ms.values())
    assert "CUDA kernels on Fake GPU + ONNX Runtime" in inspector.backend


def test_an_integrated_gpu_reads_the_frame_where_it_is(fused: Open, driver: FakeDriver) -> None:
    driver.attributes["INTEGRATED"] = 1
    inspector = fused()
    [frame] = frames_of((48, 64))
    inspector.inspect(frame)
    inspector.inspect(frame)
    assert driver.calls["cuMemcpyHtoDAsync"] == 0


def test_the_copy_out_is_small(fused: Open, driver: FakeDriver) -> None:
    """Score, score map, heat map, image and x̂0; nothing of the other time steps."""
    inspector = fused()
    inspector.inspect(frames_of((48, 64))[0])
    plane = TINY.image_size**2
    [results] = {m.size for m in driver.live["host"].values()} - {256 + 48 * 64 * 3}
    assert results <= plane * (6 * 4 + 4 + 1) + 4 * 256


@pytest.mark.parametrize("model", [TINY, TILED, GUIDED], ids=["plain", "tiled", "guided"])
def test_pictures_that_nobody_wants_stay_on_the_device(
    fused: Open, bundle: Bundle, driver: FakeDriver, model: ModelConfig
) -> None:
    inspector, expected = fused(model, pictures=False), reference(bundle, model)
    frames = frames_of((50, 90), (48, 64))
    for one, other in zip(
        inspector.inspect_batch(frames), expected.inspect_batch(frames), strict=True
    ):
        assert one.score == pytest.approx(other.score, abs=SCORE)
        np.testing.assert_allclose(one.score_map, other.score_map, atol=MAP)
        np.testing.assert_allclose(one.heat.astype(int), other.heat, atol=1)
        assert one.image.shape == one.restored.shape == (3, 0, 0)
    inspector.inspect(frames[0])
    plane = model.image_size**2
    views = 4 if model is TILED else 1
    smallest = min(m.size for m in driver.live["host"].values())
    assert smallest <= views * plane * (4 + 1) + 8 * 256, "score map and heat map alone"


@pytest.mark.parametrize("model", [TINY, TILED], ids=["plain", "tiled"])
def test_times_that_nobody_wants_are_not_taken(
    fused: Open, bundle: Bundle, driver: FakeDriver, model: ModelConfig
) -> None:
    inspector, frames = fused(model, stage_times=False), frames_of((48, 64), (48, 64))
    for _ in range(2):
        found = inspector.inspect_batch(frames)
        assert_same(found, reference(bundle, model).inspect_batch(frames))
    assert found[0].stage_ms == {}
    assert driver.calls["cuEventElapsedTime"] == driver.calls["cuEventRecordWithFlags"] == 0
    assert not any(event.timing for event in driver.live["event"].values())


def test_two_frames_are_on_their_way_at_once(fused: Open, bundle: Bundle) -> None:
    inspector, expected = fused(), reference(bundle)
    frames = frames_of(*[(48, 64)] * 4)
    found = list(inspector.inspect_each(frame for frame in frames))
    assert_same(found, [expected.inspect(frame) for frame in frames])
    assert list(inspector.inspect_each([])) == []
    waiting = [inspector.submit([frame]) for frame in frames[:2]]
    with pytest.raises(DeviceError, match="2 batches are on their way"):
        inspector.submit([frames[2]])
    assert_same([inspector.collect(lane)[0] for lane in waiting], found[:2])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("model", [TINY, TILED], ids=["plain", "tiled"])
def test_any_order_that_cuda_allows_gives_the_same(
    fused: Open, bundle: Bundle, driver: FakeDriver, seed: int, model: ModelConfig
) -> None:
    driver.haste = rng = np.random.default_rng(seed)
    driver.attributes["INTEGRATED"] = seed % 2
    inspector, expected = fused(model, fresh_noise=True), reference(bundle, model, fresh_noise=True)
    frames = frames_of((48, 64), (20, 31), (40, 40), (33, 57), (21, 30))
    waiting: list[tuple[Any, list[Inspection]]] = []
    for _ in range(16):
        batch = [frames[i] for i in rng.integers(0, 5, rng.integers(1, 4))]
        given = [frame.copy() for frame in batch]
        lane = inspector.submit(given)
        for frame in given:
            frame[:] = 255
        waiting.append((lane, expected.inspect_batch(batch)))
        if len(waiting) == 2:
            lane, wanted = waiting.pop(0)
            assert_same(inspector.collect(lane), wanted)
    for lane, wanted in waiting:
        assert_same(inspector.collect(lane), wanted)


def test_results_that_nobody_takes_do_not_stand_in_the_way(fused: Open) -> None:
    inspector = fused()
    frames = frames_of(*[(48, 64)] * 3)
    for _ in range(3):
        for _ in inspector.inspect_each(frames):
            break
    bad = np.zeros((4, 4), np.uint8)
    for _ in range(3):
        with pytest.raises(DataError):
            list(inspector.inspect_each([frames[0], bad]))
    assert len(list(inspector.inspect_each(frames))) == 3


def test_a_frame_may_change_as_soon_as_it_was_submitted(fused: Open, bundle: Bundle) -> None:
    inspector = fused()
    [frame] = frames_of((48, 64))
    expected = reference(bundle).inspect(frame)
    lane = inspector.submit([frame])
    frame[:] = 0
    assert_same(inspector.collect(lane), [expected])


def test_graphs_of_old_geometries_are_given_back(
    fused: Open, bundle: Bundle, driver: FakeDriver
) -> None:
    inspector, expected = fused(), reference(bundle)
    frames = frames_of(*((30 + i, 40) for i in range(7)))
    for frame in frames:
        assert_same([inspector.inspect(frame)], [expected.inspect(frame)])
    assert driver.left()["executable graph"] == 4
    found = list(inspector.inspect_each(frames))
    assert_same(found, [expected.inspect(frame) for frame in frames])
    assert driver.left()["executable graph"] == 4


def test_frames_with_gaps_between_rows_and_pixels(fused: Open, bundle: Bundle) -> None:
    [frame] = frames_of((96, 128))
    for part in (frame[5:53, 9:73], frame[::2, ::2], frame[:, ::-1], frame[..., ::-1]):
        assert_same([fused().inspect(part)], [reference(bundle).inspect(part)])


def test_every_pixel_format(fused: Open, bundle: Bundle) -> None:
    inspector, expected = fused(), reference(bundle)
    [frame] = frames_of((48, 64))
    rgb = np.ascontiguousarray(frame[..., ::-1])
    assert_same([inspector.inspect(rgb, "rgb")], [expected.inspect(frame)])
    grey = frame[..., 0]
    assert_same([inspector.inspect(grey, "grey")], [expected.inspect(cv2.merge([grey] * 3))])
    nv12 = np.random.default_rng(1).integers(0, 256, (72, 64), dtype=np.uint8)
    as_bgr = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
    assert_same([inspector.inspect(nv12, "nv12")], [expected.inspect(as_bgr)])


@pytest.mark.parametrize("model", [TINY, TILED], ids=["plain", "tiled"])
def test_ignored_pixels_do_not_count(fused: Open, bundle: Bundle, model: ModelConfig) -> None:
    ignore = np.zeros((60, 80), bool)
    ignore[:30] = True
    [frame] = frames_of((48, 64))
    [found] = fused(model, ignore=ignore).inspect_batch([frame])
    assert_same([found], [reference(bundle, model, ignore=ignore).inspect(frame)])
    assert (found.score_map[: len(found.score_map) // 2 - 1] == 0).all()


@pytest.mark.parametrize("max_rows", [None, 6, 2])
def test_views_pass_in_batches_that_the_engine_takes(
    fused: Open, bundle: Bundle, max_rows: int | None
) -> None:
    frames = frames_of((50, 90), (90, 50))
    inspector = fused(TILED, max_rows=max_rows)
    for _ in range(2):
        found = inspector.inspect_batch(frames)
        assert_same(found, reference(bundle, TILED).inspect_batch(frames))


def test_grey_frames_are_tiled_and_nv12_frames_are_not(fused: Open, bundle: Bundle) -> None:
    inspector = fused(TILED)
    [frame] = frames_of((50, 90))
    grey = np.ascontiguousarray(frame[..., 0])
    expected = reference(bundle, TILED).inspect(cv2.merge([grey] * 3))
    assert_same([inspector.inspect(grey, "grey")], [expected])
    with pytest.raises(DataError, match="NV12 frames cannot be tiled"):
        inspector.inspect(np.zeros((72, 64), np.uint8), "nv12")
    assert_same([inspector.inspect(grey, "grey")], [expected])


def test_fresh_noise_is_that_of_the_reference(fused: Open, bundle: Bundle) -> None:
    inspector, expected = fused(fresh_noise=True), reference(bundle, fresh_noise=True)
    frames = frames_of((48, 64), (48, 64))
    for _ in range(3):
        assert_same(inspector.inspect_batch(frames), expected.inspect_batch(frames))
    again = inspector.inspect(frames[0]).restored
    assert np.abs(again - inspector.inspect(frames[0]).restored).max() > 0.05


def test_a_lost_device_ends_the_inspector_and_another_can_be_opened(
    fused: Open, bundle: Bundle, driver: FakeDriver
) -> None:
    [frame] = frames_of((48, 64))
    inspector = fused()
    inspector.inspect(frame)
    driver.fail_late("CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(DeviceError, match="the GPU was lost in cuEventSynchronize") as caught:
        inspector.inspect(frame)
    assert "close the inspector and open it again" in caught.value.next_step
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        inspector.inspect(frame)
    inspector.close()
    with pytest.raises(DeviceError, match="is closed"):
        inspector.inspect(frame)
    assert_same([fused().inspect(frame)], [reference(bundle).inspect(frame)])


@pytest.mark.parametrize(
    "name",
    [
        "cuMemAlloc",
        "cuMemHostAlloc",
        "cuEventCreate",
        "cuGraphInstantiate",
        "cuStreamBeginCapture",
        "cuStreamEndCapture",
        "cuLaunchKernel",
        "cuMemcpyHtoDAsync",
        "cuEventRecordWithFlags",
    ],
)
def test_out_of_memory_anywhere_leaves_nothing_behind(
    fused: Open, bundle: Bundle, driver: FakeDriver, name: str
) -> None:
    [frame] = frames_of((48, 64))
    inspector = fused()
    left = []
    for _ in range(3):
        driver.fail(name, "CUDA_ERROR_OUT_OF_MEMORY")
        with pytest.raises(DeviceError, match="OUT_OF_MEMORY") as caught:
            inspector.inspect(frame)
        assert "close other programs" in caught.value.next_step
        left.append(driver.left())
    assert left[1:] == left[:1] * 2
    assert_same([inspector.inspect(frame)], [reference(bundle).inspect(frame)])


@pytest.mark.parametrize("after", [1, 4])
def test_half_of_the_tensors_is_given_back(fused: Open, driver: FakeDriver, after: int) -> None:
    inspector = fused()
    before = driver.left()
    driver.fail("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", after)
    with pytest.raises(DeviceError):
        inspector.inspect(frames_of((48, 64))[0])
    assert driver.left() == before


def test_tensors_of_different_types_are_refused(bundle: Bundle, driver: FakeDriver) -> None:
    device = Device()
    ops = CudaOps(device, TINY, alpha_bar(TINY))
    names, shape = ("x_t", "noise"), (3, 3, TINY.image_size)
    engines = [
        OnnxOnDevice(driver, bundle.path / DENOISER, shape, names, element)
        for element in ("f32", "f16")
    ]
    with pytest.raises(ModelError, match="'segmenter': 'f16'"):
        FusedInspector(device, ops, *engines, 0.5)
    device.close()


@pytest.mark.parametrize("model", [TINY, GUIDED, TILED], ids=["average", "norm_guided", "tiled"])
@pytest.mark.parametrize(
    ("graph", "value"),
    [(DENOISER, np.nan), (DENOISER, np.inf), (SEGMENTER, np.nan)],
)
def test_a_network_that_gives_no_number_is_never_good(
    bundle: Bundle, driver: FakeDriver, tmp_path: Path, graph: str, value: float, model: ModelConfig
) -> None:
    device, side = Device(), model.image_size
    for name in (DENOISER, SEGMENTER):
        network = onnx.load(bundle.path / name)
        if name == graph:
            bias = next(w for w in network.graph.initializer if w.name == "b_head")
            spoiled = np.full(bias.dims, value, np.float32)
            bias.CopyFrom(onnx.numpy_helper.from_array(spoiled, "b_head"))
        onnx.save(network, tmp_path / name)
    engines = (
        OnnxOnDevice(driver, tmp_path / DENOISER, (3, 3, side), ("x_t", "noise")),
        OnnxOnDevice(driver, tmp_path / SEGMENTER, (6, 1, side), ("pair", "mask")),
    )
    ops = CudaOps(device, model, alpha_bar(model))
    with FusedInspector(device, ops, *engines, 0.5) as inspector:
        inspection = inspector.inspect(frames_of((48, 64))[0])
    assert inspection.verdict == "invalid"
    assert (inspection.heat == 255).all()
