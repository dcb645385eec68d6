"""The fused runtime on a real GPU: what `test_inspector.py` does on a fake one; by `make gpu`."""

from __future__ import annotations

import copy
import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_networks import make_network_bundle, write_marked_data
from tiny import TINY

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

from dad_edge.config import FramingConfig, ModelConfig  # noqa: E402
from dad_edge.deploy.build import build, find_target  # noqa: E402
from dad_edge.errors import DadEdgeError  # noqa: E402
from dad_edge.gate.images import data_images  # noqa: E402
from dad_edge.gate.verify import verify  # noqa: E402
from dad_edge.runtime.cpu.engine_torch import torch_inspector  # noqa: E402
from dad_edge.runtime.gpu.engine_torch import (  # noqa: E402
    TorchPrecision,
    fused_torch_inspector,
)
from dad_edge.runtime.gpu.inspector import FusedInspector  # noqa: E402
from dad_edge.runtime.inspection import STAGES  # noqa: E402
from dad_edge.runtime.inspector import open_inspector  # noqa: E402
from dad_edge.runtime.opening import open_graphs  # noqa: E402
from dad_edge.runtime.seams import Inspection  # noqa: E402
from tests.runtime.cpu.test_engine_torch import GUIDED, make_detector  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
]

TILED = replace(TINY, framing=FramingConfig(tiles=(2, 2), keep_aspect=True))
TOLERANCE: dict[TorchPrecision, float] = {"fp32": 1e-4, "fp16": 2e-2, "bf16": 1e-1}


def frames_of(*sizes: tuple[int, int]) -> list[np.ndarray]:
    rng = np.random.default_rng(len(sizes))
    return [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]


def assert_same(found: list[Inspection], expected: list[Inspection], tolerance: float) -> None:
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one.score_map, other.score_map, atol=tolerance)
        np.testing.assert_allclose(one.image, other.image, atol=max(tolerance / 10, 1e-5))
        assert one.score == pytest.approx(other.score, abs=tolerance)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("model", [TINY, GUIDED, TILED], ids=["average", "norm_guided", "tiled"])
def test_it_is_the_reference(model: ModelConfig, precision: TorchPrecision) -> None:
    detector = make_detector(model)
    expected = torch_inspector(copy.deepcopy(detector), seed=5)
    frames = frames_of((48, 64), (20, 31), (480, 640))
    with fused_torch_inspector(detector, precision=precision, seed=5) as inspector:
        for batch in (frames[:1], frames, frames[1:2], frames[:1], frames[2:] * 2):
            found = inspector.inspect_batch(batch)
            assert_same(found, expected.inspect_batch(batch), TOLERANCE[precision])


@pytest.fixture
def fused() -> FusedInspector:
    return fused_torch_inspector(make_detector(TINY), precision="fp32", seed=5)


def test_every_kind_of_frame(fused: FusedInspector) -> None:
    expected = torch_inspector(make_detector(TINY), seed=5)
    [frame] = frames_of((48, 64))
    with fused:
        want = [expected.inspect(frame)]
        on_device = torch.from_numpy(frame).cuda()
        assert_same([fused.inspect(on_device)], want, 1e-4)
        padded = torch.zeros((48, 70, 3), dtype=torch.uint8, device="cuda")[:, :64]
        padded.copy_(on_device)
        assert_same([fused.inspect(padded)], want, 1e-4)
        rgb = np.ascontiguousarray(frame[..., ::-1])
        assert_same([fused.inspect(rgb, "rgb")], want, 1e-4)
        nv12 = np.random.default_rng(1).integers(0, 256, (72, 64), dtype=np.uint8)
        as_bgr = cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12)
        assert_same([fused.inspect(nv12, "nv12")], [expected.inspect(as_bgr)], 1e-4)


def test_a_frame_of_cupy(fused: FusedInspector) -> None:
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    [frame] = frames_of((48, 64))
    with fused:
        expected = [fused.inspect(frame)]
        with cupy.cuda.Stream(non_blocking=True):
            assert_same([fused.inspect(cupy.asarray(frame))], expected, 1e-6)


def test_frames_follow_each_other_without_new_memory(fused: FusedInspector) -> None:
    frames = frames_of(*[(480, 640)] * 20)
    with fused:
        expected = [fused.inspect(frame).score for frame in frames]
        list(fused.inspect_each(frames[:2]))
        owned, before = len(fused._device.owned), torch.cuda.memory_reserved()
        results = list(fused.inspect_each(frames))
        assert [result.score for result in results] == expected
        assert len(fused._device.owned) == owned
        assert torch.cuda.memory_reserved() == before
        assert tuple(results[-1].stage_ms) == STAGES
        assert all(0 < ms < 1000 for ms in results[-1].stage_ms.values())


@pytest.mark.tensorrt
@pytest.mark.parametrize("runtime", ["tensorrt", "tensorrt-rtx"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_engines_pass_the_gate(tmp_path: Path, runtime: str, precision: str) -> None:
    module = runtime.replace("-", "_")
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    bundle = make_network_bundle(tmp_path / "bundle")
    try:
        target = find_target(runtime, frames=(1, 4))  # type: ignore[arg-type]
        sidecar = build(bundle, precision, target)  # type: ignore[arg-type]
    except DadEdgeError as error:
        pytest.skip(error.message)
    data = write_marked_data(bundle, tmp_path / "data")
    report = verify(bundle, sidecar.name, data_images(data))
    assert report.judgement.outcome == "passed", report
    frames = frames_of(*[(48, 64)] * 5)
    expected = open_graphs(bundle).inspect_batch(frames)
    with open_inspector(bundle, engine=sidecar.name) as inspector:
        assert "CUDA kernels" in inspector.backend
        for count in (1, 3, 5):
            assert_same(inspector.inspect_batch(frames[:count]), expected[:count], 2e-2)


RESTART = """
import ctypes
import numpy as np
from dad_edge.errors import DeviceError
from dad_edge.kernels.compile import compile_cubin
from dad_edge.runtime.gpu.driver import Device

def first_of_map(device, address):
    stream = device.stream()
    module = device.load(compile_cubin("pool", device.arch))
    result, back = device.allocate(64), device.allocate_host(4)
    broken, heat = device.upload(np.zeros(1, np.uint32)), device.allocate(16)
    places = (address, 0, broken.address, result.address, heat.address)
    places = (*places, device.allocate(3 * 2048 * 4).address)
    arguments = [*map(ctypes.c_void_p, places), ctypes.c_int(4), ctypes.c_int(1)]
    device.launch(device.function(module, "pool_map_f32"), (1, 1), 32, stream, arguments)
    device.copy_out(back.address, result.address, 4, stream)
    device.synchronize(stream)
    return float(back.bytes.view(np.float32)[0])

device = Device()
try:
    first_of_map(device, 16)
except DeviceError as error:
    print("lost:", error.message)
device.close()
try:
    device = Device()
    masks = device.upload(np.full(16, 14.5, np.float32))
    assert first_of_map(device, masks.address) == 14.5
    device.close()
    print("restarted")
except DeviceError as error:
    print("cannot restart:", error.message, error.next_step)
"""


def test_a_lost_gpu_is_named_and_opened_again_where_cuda_allows_it() -> None:
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", RESTART], cwd=root, capture_output=True, text=True, timeout=120
    )
    first, second = done.stdout.splitlines()
    assert first.startswith("lost: the GPU was lost in cu"), done.stderr
    assert "CUDA_ERROR_ILLEGAL_ADDRESS" in first
    assert second == "restarted" or second.startswith("cannot restart:")
