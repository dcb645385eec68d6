"""PyCUDA on a real GPU: frames in its memory, and our kernels launched by it; by `make gpu`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny import TINY

torch = pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")
cuda = pytest.importorskip(
    "pycuda.driver", reason="PyCUDA is not installed (extra 'pycuda')", exc_type=ImportError
)
pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")

from dad_edge.errors import DataError  # noqa: E402
from dad_edge.kernels.compile import compile_cubin  # noqa: E402
from dad_edge.model.diffusion import alpha_bar_table  # noqa: E402
from dad_edge.runtime.cpu.ops import NumpyOps  # noqa: E402
from dad_edge.runtime.gpu.engine_torch import fused_torch_inspector  # noqa: E402
from tests.runtime.cpu.test_engine_torch import make_detector  # noqa: E402

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="PyTorch finds no CUDA device"),
]

FRAME = np.random.default_rng(4).integers(0, 256, (48, 64, 3), dtype=np.uint8)
SEED, COUNTER = 5, 3


@pytest.fixture
def primary() -> Iterator[Any]:
    """The primary context of the GPU, current, as `pycuda.autoprimaryctx` makes it."""
    cuda.init()
    context = cuda.Device(0).retain_primary_context()
    context.push()
    yield context
    context.pop()


def on_device(values: np.ndarray) -> Any:
    from pycuda import gpuarray

    return gpuarray.to_gpu(np.ascontiguousarray(values))


def test_a_frame_in_its_memory(primary: Any) -> None:
    with fused_torch_inspector(make_detector(TINY), precision="fp32", seed=SEED) as inspector:
        expected, found = inspector.inspect(FRAME), inspector.inspect(on_device(FRAME))
    np.testing.assert_array_equal(found.score_map, expected.score_map)


def test_a_frame_of_another_context_is_refused() -> None:
    cuda.init()
    with fused_torch_inspector(make_detector(TINY), precision="fp32", seed=SEED) as inspector:
        own = cuda.Device(0).make_context()
        frame = on_device(FRAME)
        with pytest.raises(DataError) as caught:
            inspector.inspect(frame)
        assert "autoprimaryctx" in caught.value.next_step
        own.push()
        frame.gpudata.free()
        own.pop()
        own.detach()


def test_it_launches_our_kernels(primary: Any) -> None:
    """Parameters packed by another library, of the types that the source of the kernel names."""
    size, levels = TINY.image_size, len(TINY.lambdas)
    table = alpha_bar_table(TINY.schedule)
    bars = np.asarray([table[step] for step in TINY.lambdas], np.float32)
    low, high = TINY.value_range
    major, minor = cuda.Device(0).compute_capability()
    module = cuda.module_from_buffer(compile_cubin("inject", f"sm_{major}{minor}"))
    frame, counter = on_device(FRAME), on_device(np.array([COUNTER], np.uint64))
    image = on_device(np.full((3, size, size), np.nan, np.float32))
    x_t = on_device(np.full((levels, 3, size, size), np.nan, np.float32))
    broken = on_device(np.ones(1, np.uint32))
    signal, noise = on_device(np.sqrt(bars)), on_device(np.sqrt(1 - bars))
    kernel = module.get_function("inject_f32")
    height, width = FRAME.shape[:2]
    kernel(
        frame.gpudata,
        *map(np.int64, (0, 3 * width, 3 * width * height)),
        *map(np.int32, (height, width, 0)),
        *(array.gpudata for array in (image, x_t, broken)),
        *map(np.int32, (size, 0, 1, levels)),
        signal.gpudata,
        noise.gpudata,
        *map(np.float32, (high - low, low)),
        np.uint64(SEED),
        counter.gpudata,
        np.int32(0),
        grid=(-(-3 * size * size // (4 * 256)), 1),
        block=(256, 1, 1),
    )
    expected = NumpyOps(TINY, bars.tolist(), SEED).inject([FRAME], COUNTER)
    np.testing.assert_allclose(image.get(), expected.image[0], atol=1e-5)
    np.testing.assert_allclose(x_t.get(), expected.x_t, atol=1e-5)
    assert broken.get()[0] == 0
