"""The TensorRT engine: its API in four versions by name, and its use on a fake device."""

from __future__ import annotations

import ast
import importlib.util
import inspect
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from fake_cuda import FakeDriver
from fake_tensorrt import PROFILES, SCRATCH_BYTES, make_plan, make_tensorrt
from small_networks import make_network_bundle
from tiny import TINY

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import DeviceError, ModelError
from dad_edge.runtime.gpu import engine_tensorrt, tensorrt_api
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.engine_tensorrt import TensorRtEngine
from dad_edge.runtime.gpu.inspector import FusedInspector
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.gpu.tensorrt_api import tensorrt_logger
from dad_edge.runtime.inspector import open_inspector

API = json.loads((Path(__file__).parents[2] / "support" / "tensorrt_api.json").read_text())
"""Version → class → members, read from the bindings' wheels."""
VARIABLES = {
    "context": "IExecutionContext",
    "engine": "ICudaEngine",
    "self._engine": "ICudaEngine",
    "opener": "Runtime",
    "modes": "TensorIOMode",
    "trt": "module",
    "self._trt": "module",
}
"""What the variables of the module hold."""
RTX_ONLY = {
    "DynamicShapesKernelSpecializationStrategy",
    "create_runtime_config",
    "create_runtime_cache",
    "is_stream_capturable",
}


def used_members() -> Iterator[tuple[str, str]]:
    """(class, member) of every TensorRT name in the engine and in its logger."""
    for module in (engine_tensorrt, tensorrt_api):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = ast.unparse(node.value)
                if owner in VARIABLES:
                    yield VARIABLES[owner], node.attr
                elif owner.startswith("trt."):
                    yield owner.removeprefix("trt."), node.attr


@pytest.mark.parametrize("version", sorted(API))
def test_every_api_member_in_use_exists(version: str) -> None:
    used = {pair for pair in used_members() if pair[1] not in RTX_ONLY | {"__init__"}}
    assert len(used) > 20
    for owner, name in sorted(used):
        assert name in API[version][owner], f"TensorRT {version} has no {owner}.{name}"


@pytest.mark.tensorrt
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
)
def test_tensorrt_rtx_has_every_member_too() -> None:
    import tensorrt_rtx

    for owner, name in used_members():
        assert hasattr(tensorrt_rtx if owner == "module" else getattr(tensorrt_rtx, owner), name)
    settings = tensorrt_rtx.IRuntimeConfig
    assert hasattr(settings, "dynamic_shapes_kernel_specialization_strategy")
    assert hasattr(settings, "set_execution_context_allocation_strategy")
    assert hasattr(settings, "create_runtime_cache")
    assert hasattr(settings, "set_runtime_cache")
    assert hasattr(tensorrt_rtx.IRuntimeCache, "deserialize")
    assert hasattr(tensorrt_rtx.IRuntimeCache, "serialize")
    assert hasattr(tensorrt_rtx.DynamicShapesKernelSpecializationStrategy, "EAGER")


@pytest.mark.tensorrt
@pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
)
def test_tensorrt_rtx_gives_its_own_reason(tmp_path: Path) -> None:
    """The real runtime, which needs a driver to open a plan and a plan to open one."""
    (tmp_path / "bad.plan").write_bytes(b"something else" * 100)
    with pytest.raises(ModelError, match=r"TensorRT-RTX \d.* refuses .*bad\.plan: \S") as caught:
        TensorRtEngine("tensorrt-rtx", tmp_path / "bad.plan", "fp16")
    assert "it gave no reason" not in caught.value.message


@pytest.fixture
def trt(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = make_tensorrt(driver)
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    tensorrt_logger.cache_clear()
    yield module
    tensorrt_logger.cache_clear()


@pytest.mark.parametrize("version", sorted(API))
def test_the_fake_has_nothing_that_tensorrt_lacks(trt: ModuleType, version: str) -> None:
    for name, members in API[version].items():
        if name != "module" and hasattr(trt, name):
            ours = {m for m in vars(getattr(trt, name)) if not m.startswith("_")}
            assert ours <= set(members), name
    signature = inspect.signature(trt.IExecutionContext.execute_async_v3)
    assert list(signature.parameters) == ["self", "stream_handle"]


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    made = make_network_bundle(tmp_path / "bundle")
    for graph in (DENOISER, SEGMENTER):
        make_plan(made.path / graph, tmp_path / f"{graph}.plan")
    return made


def engine(tmp_path: Path, graph: str) -> TensorRtEngine:
    return TensorRtEngine("tensorrt", tmp_path / f"{graph}.plan", "fp16")


def test_the_inspection_is_that_of_the_reference(
    bundle: Bundle, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    expected = open_inspector(bundle, threads=1)
    device = Device()
    ops = CudaOps(device, bundle.model, bundle.manifest.alpha_bar)
    engines = engine(tmp_path, DENOISER), engine(tmp_path, SEGMENTER)
    assert engines[0].max_rows == 16
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(9)]
    with FusedInspector(device, ops, *engines, expected.threshold) as inspector:
        assert "TensorRT 10.3.0 fp16" in inspector.backend
        for count in (1, 2, 9, 1):
            found = inspector.inspect_batch(frames[:count])
            for one, other in zip(found, expected.inspect_batch(frames[:count]), strict=True):
                assert one.score == pytest.approx(other.score, abs=2e-6)
                np.testing.assert_allclose(one.score_map, other.score_map, atol=3e-6)
        made = len(trt.contexts)
        inspector.inspect(frames[0])
        assert len(trt.contexts) == made == 2 * 3, "one context for one, two and eight frames"
    profiles = [context.active_optimization_profile for context in trt.contexts]
    assert profiles == [0, 0, 1, 1, 1, 1]
    assert driver.left() == {}


def test_all_passes_compute_in_one_piece_of_memory_of_the_size_in_use(
    bundle: Bundle, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    """A graph that was captured with memory that has grown since is captured again."""
    expected = open_inspector(bundle, threads=1)
    device = Device()
    ops = CudaOps(device, bundle.model, bundle.manifest.alpha_bar)
    engines = engine(tmp_path, DENOISER), engine(tmp_path, SEGMENTER)
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(4)]

    def pieces() -> list[int]:
        sizes = [memory.size for memory in driver.live["device"].values()]
        return [size for size in sizes if size % SCRATCH_BYTES == 0]

    with FusedInspector(device, ops, *engines, expected.threshold) as inspector:
        for count, rows, graphs in ((1, 2, 1), (4, 8, 2), (1, 8, 3), (1, 8, 3), (4, 8, 3)):
            found = inspector.inspect_batch(frames[:count])
            for one, other in zip(found, expected.inspect_batch(frames[:count]), strict=True):
                assert one.score == pytest.approx(other.score, abs=2e-6)
            assert pieces() == [rows * SCRATCH_BYTES]
            assert driver.calls["cuGraphInstantiate"] == graphs
        waiting = inspector.submit([frames[0]])  # while another batch needs more
        inspector.inspect_batch([*frames, *frames])
        [inspection] = inspector.collect(waiting)
        assert inspection.score == pytest.approx(expected.inspect(frames[0]).score, abs=2e-6)
    assert driver.left() == {}


def test_without_memory_to_grow_the_smaller_batches_still_run(
    bundle: Bundle, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    device = Device()
    ops = CudaOps(device, bundle.model, bundle.manifest.alpha_bar)
    frame = np.zeros((32, 32, 3), np.uint8)
    engines = engine(tmp_path, DENOISER), engine(tmp_path, SEGMENTER)
    with FusedInspector(device, ops, *engines, 0.5) as inspector:
        score = inspector.inspect(frame).score
        inspector.submit([frame] * 4).finish()
        inspector.inspect(frame)
        driver.fail("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", after=6)  # behind the tensors
        with pytest.raises(DeviceError, match="OUT_OF_MEMORY"):
            inspector.inspect_batch([frame] * 8)
        assert inspector.inspect(frame).score == score
    assert driver.left() == {}


@pytest.fixture
def rtx(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    module = make_tensorrt(driver, "1.7.1", rtx=True)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    tensorrt_logger.cache_clear()
    yield module
    tensorrt_logger.cache_clear()


@pytest.mark.parametrize("capturable", [True, False])
def test_what_cannot_be_captured_runs_without_a_graph_and_says_so(
    bundle: Bundle,
    rtx: ModuleType,
    driver: FakeDriver,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capturable: bool,
) -> None:
    rtx.capturable = capturable
    expected = open_inspector(bundle, threads=1)
    device = Device()
    ops = CudaOps(device, bundle.model, bundle.manifest.alpha_bar)
    engines = [
        TensorRtEngine("tensorrt-rtx", tmp_path / f"{graph}.plan", "fp16")
        for graph in (DENOISER, SEGMENTER)
    ]
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (48, 64, 3), dtype=np.uint8) for _ in range(3)]
    with FusedInspector(device, ops, *engines, expected.threshold) as inspector:
        for frame, one in zip(frames, inspector.inspect_each(frames), strict=True):
            assert one.score == pytest.approx(expected.inspect(frame).score, abs=2e-6)
            assert all(ms > 0 for ms in one.stage_ms.values())
        assert ("without a CUDA graph" in inspector.backend) is not capturable
    assert ("cannot be captured in a CUDA graph" in caplog.text) is not capturable
    assert bool(driver.calls["cuGraphLaunch"]) is capturable
    assert driver.left() == {}


def test_kernels_that_rtx_compiled_are_there_at_the_next_start(
    bundle: Bundle, rtx: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    frame = np.zeros((32, 32, 3), np.uint8)

    def start() -> list[str]:
        """What is compiled when the program starts and inspects."""
        rtx.compiled.clear()
        device = Device()
        ops = CudaOps(device, bundle.model, bundle.manifest.alpha_bar)
        engines = [
            TensorRtEngine("tensorrt-rtx", tmp_path / f"{graph}.plan", "fp16")
            for graph in (DENOISER, SEGMENTER)
        ]
        with FusedInspector(device, ops, *engines, 0.5) as inspector:
            inspector.inspect(frame)
            kept = [(tmp_path / f"{graph}.cache") for graph in (DENOISER, SEGMENTER)]
            assert all(path.is_file() for path in kept), "also if it is killed from here on"
        return list(rtx.compiled)

    assert start() == ["rows2", "rows2"]
    assert start() == []
    (tmp_path / f"{DENOISER}.cache").write_bytes(b"of another version")
    assert start() == ["rows2"]
    assert start() == []
    (tmp_path / f"{SEGMENTER}.cache").unlink()
    (tmp_path / f"{SEGMENTER}.cache").mkdir()  # cannot be written
    with pytest.raises(AssertionError, match="also if"):
        start()
    assert rtx.compiled == ["rows2"]


def test_a_plan_that_is_refused_gives_the_reason(trt: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "bad.plan").write_bytes(b"something else")
    with pytest.raises(ModelError, match=r"refuses .*bad\.plan: Serialization assertion failed"):
        engine(tmp_path, "bad")


def test_rows_that_no_profile_takes_are_refused(
    bundle: Bundle, trt: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match="not for 17") as caught:
        engine(tmp_path, DENOISER).bind(17, 1, 2, 3)
    assert "--frames" in caught.value.next_step
    assert str(list(PROFILES[0])).strip("[]") in caught.value.message


def test_a_failing_pass_is_named_and_can_be_tried_again(
    bundle: Bundle, trt: ModuleType, driver: FakeDriver, tmp_path: Path
) -> None:
    device = Device()
    ops = CudaOps(device, TINY, bundle.manifest.alpha_bar)
    engines = engine(tmp_path, DENOISER), engine(tmp_path, SEGMENTER)
    frame = np.zeros((32, 32, 3), np.uint8)
    with FusedInspector(device, ops, *engines, 0.5) as inspector:
        trt.fails = "memory"
        with pytest.raises(DeviceError, match=r"what memory 2 rows need: Shapes are not known\."):
            inspector.inspect(frame)
        trt.fails = "pass"
        with pytest.raises(DeviceError, match=r"fp16 failed: Cuda Runtime \(out of memory\)\."):
            inspector.inspect(frame)
        trt.fails = ""
        assert inspector.inspect(frame).verdict in ("good", "defect")
    assert driver.left() == {}


def test_other_tensor_types_are_refused(bundle: Bundle, trt: ModuleType, tmp_path: Path) -> None:
    trt.dtypes = {"x_t": trt.DataType.HALF}
    with pytest.raises(ModelError, match="tensors of types"):
        engine(tmp_path, DENOISER)
    trt.dtypes = {"x_t": trt.DataType.HALF, "noise": trt.DataType.HALF}
    assert engine(tmp_path, DENOISER).element == "f16"


def test_host_code_of_a_plan_runs_only_where_it_was_built_for_it(
    bundle: Bundle, trt: ModuleType, tmp_path: Path
) -> None:
    for allowed in (False, True):
        path = tmp_path / f"{DENOISER}.plan"
        TensorRtEngine("tensorrt", path, "fp16", version_compatible=allowed)
        assert trt.runtimes[-1].engine_host_code_allowed is allowed
