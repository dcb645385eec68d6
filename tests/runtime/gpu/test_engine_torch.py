"""PyTorch in the fused runtime: on a fake device here, on a GPU in `test_device.py`."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeDriver, real
from tiny import TINY

from tests.runtime.cpu.test_engine_torch import GUIDED, make_detector

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

from dad_edge.bench import subject  # noqa: E402
from dad_edge.bench.case import Case  # noqa: E402
from dad_edge.config import ModelConfig  # noqa: E402
from dad_edge.errors import UsageError  # noqa: E402
from dad_edge.model.ablations import SegmentationAD  # noqa: E402
from dad_edge.model.denoiser import Denoiser  # noqa: E402
from dad_edge.runtime.cpu.engine_torch import torch_inspector  # noqa: E402
from dad_edge.runtime.gpu import engine_torch as engine_torch_cuda  # noqa: E402
from dad_edge.runtime.gpu import group_norm  # noqa: E402
from dad_edge.runtime.gpu.engine_torch import (  # noqa: E402
    TorchDeviceEngine,
    TorchPrecision,
    fused_torch_inspector,
)
from dad_edge.runtime.inspection import STAGES  # noqa: E402
from dad_edge.runtime.seams import Pass  # noqa: E402


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """PyTorch's CUDA side on the fake device: its streams, its memory, its pools."""
    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    used: list[Any] = []

    def tensor(self: TorchDeviceEngine, address: int, rows: int, channels: int) -> Any:
        shape = (rows, channels, self._size, self._size)
        kind = np.dtype(np.float32 if self.element == "f32" else np.float16)
        memory = (ctypes.c_uint8 * (int(np.prod(shape)) * kind.itemsize)).from_address(address)
        return torch.from_numpy(np.frombuffer(memory, kind).reshape(shape))

    bind = TorchDeviceEngine.bind

    def bind_deferred(
        self: TorchDeviceEngine, rows: int, source: int, target: int, stream: int
    ) -> Pass:
        enqueue = bind(self, rows, source, target, stream).enqueue

        def at_once(where: Any, work: Any) -> None:
            """PyTorch's own work on the CPU is done as soon as it is asked for."""
            assert int(where) == stream
            work()

        def run() -> None:
            used.clear()
            with monkeypatch.context() as inside:
                inside.setattr(fake, "enqueue", at_once)
                enqueue(0)
            assert used == [stream, "pool"], "on the runtime's stream, in a pool of its own"

        return Pass(lambda _: fake.enqueue(real.CUstream(stream), run))

    @contextlib.contextmanager
    def using(what: Any) -> Any:
        used.append(what)
        yield

    monkeypatch.setattr(TorchDeviceEngine, "_tensor", tensor)
    monkeypatch.setattr(TorchDeviceEngine, "bind", bind_deferred)
    monkeypatch.setattr(group_norm, "THREADS", 4)  # each is a thread of the host
    monkeypatch.setattr(group_norm, "STEPS", 256)
    monkeypatch.setattr(torch.cuda, "ExternalStream", lambda number: number)
    monkeypatch.setattr(torch.cuda, "stream", using)
    monkeypatch.setattr(torch.cuda, "MemPool", lambda: "pool")
    monkeypatch.setattr(torch.cuda, "use_mem_pool", using)
    engines = engine_torch_cuda.torch_device_engines
    monkeypatch.setattr(
        engine_torch_cuda, "torch_device_engines", lambda *args: engines(*args, where="cpu")
    )
    return fake


TOLERANCE = {"fp32": 2e-5, "fp16": 2e-2, "bf16": 1e-1}


@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
@pytest.mark.parametrize("config", [TINY, GUIDED], ids=["average", "norm_guided"])
def test_it_is_the_inspector_on_the_host(
    driver: FakeDriver,
    config: ModelConfig,
    precision: TorchPrecision,
    dark_frame: np.ndarray,
    bright_frame: np.ndarray,
) -> None:
    detector = make_detector(config)
    expected = torch_inspector(copy.deepcopy(detector), seed=3)
    frames = [dark_frame, bright_frame]
    with fused_torch_inspector(detector, precision=precision, seed=3) as inspector:
        assert f"PyTorch {torch.__version__} cuda {precision}" in inspector.backend
        for count in (1, 2, 1):
            found = inspector.inspect_batch(frames[:count])
            for one, other in zip(found, expected.inspect_batch(frames[:count]), strict=True):
                np.testing.assert_allclose(
                    one.score_map, other.score_map, atol=TOLERANCE[precision]
                )
    assert driver.left() == {}
    assert driver.calls["cuDevicePrimaryCtxReset"] == 0


def test_norms_of_odd_channels_stay_pytorchs(driver: FakeDriver, dark_frame: np.ndarray) -> None:
    odd = replace(TINY, denoiser=replace(TINY.denoiser, base_channels=6, norm_groups=3, heads=1))
    detector = make_detector(odd)
    expected = torch_inspector(copy.deepcopy(detector), seed=3).inspect(dark_frame)
    with fused_torch_inspector(detector, precision="fp32", seed=3) as inspector:
        found = inspector.inspect(dark_frame)
    norms = [each for each in detector.modules() if isinstance(each, torch.nn.GroupNorm)]
    assert {each.num_channels for each in norms if "forward" in vars(each)} == {12, 24}
    assert {each.num_channels for each in norms if "forward" not in vars(each)} == {6, 18}
    np.testing.assert_allclose(found.score_map, expected.score_map, atol=TOLERANCE["fp32"])


def test_a_pass_makes_no_tensor_from_the_host(
    driver: FakeDriver, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copies from pageable memory cannot be captured."""
    with fused_torch_inspector(make_detector(TINY), precision="fp32") as inspector:
        inspector.inspect(dark_frame)
        for name in ("tensor", "as_tensor", "from_numpy", "full", "arange"):
            monkeypatch.setattr(torch, name, None)
        assert np.isfinite(inspector.inspect(dark_frame).score)


def test_cudnn_stays_on(
    driver: FakeDriver, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its flags switch it off unless they are told not to."""
    seen = set()
    predict = Denoiser.predict

    def watched(self: Denoiser, *arguments: Any) -> Any:
        seen.add((torch.backends.cudnn.enabled, torch.backends.cudnn.allow_tf32))
        return predict(self, *arguments)

    monkeypatch.setattr(Denoiser, "predict", watched)
    with fused_torch_inspector(make_detector(TINY), precision="fp32") as inspector:
        inspector.inspect(dark_frame)
    assert seen == {(True, False)}


def test_an_ablation_without_noise_is_refused(driver: FakeDriver) -> None:
    with pytest.raises(UsageError, match="SegmentationAD puts no noise on the image"):
        fused_torch_inspector(SegmentationAD(TINY))  # type: ignore[arg-type]
    assert driver.left() == {}


def test_the_bench_measures_it(
    driver: FakeDriver, dark_frame: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    case = Case(model=TINY, engine="PyTorch CUDA graph", precision="fp16", device="cuda")
    with subject.open_case(case, [dark_frame]) as ready:
        assert ready.backend.startswith("CUDA kernels on Fake GPU + PyTorch")
        assert tuple(ready.call(0)) == STAGES
    assert driver.left() == {}
