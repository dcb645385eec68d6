"""Engine on PyTorch for the fused CUDA runtime: static tensors, channels last, no TensorRT needed.

A pass can be captured in a CUDA graph with everything around it: it runs on the runtime's stream,
reads and writes the runtime's memory, and takes its own memory from a pool that nothing else uses,
so that the addresses in the graph stay its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from dad_edge.errors import UsageError, require
from dad_edge.image.masks import Mask
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.runtime.gpu.driver import Device, closed_on_error
from dad_edge.runtime.gpu.group_norm import GroupNorms
from dad_edge.runtime.gpu.inspector import FusedInspector, keep_mask
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.seams import Element, Pass

if TYPE_CHECKING:
    from torch import Tensor

    from dad_edge.model.detector import Detector

TorchPrecision = Literal["fp32", "fp16", "bf16"]
"""Type of the weights and of what flows between the layers; FP32 is without TF32."""
_ELEMENTS: dict[TorchPrecision, str] = {"fp32": "f32", "fp16": "f16", "bf16": "bf16"}


class TorchDeviceEngine:
    """One network on PyTorch, on given device memory."""

    max_rows: int | None = None

    def __init__(
        self,
        device: Device,
        forward: Callable[[int, int], Callable[[Tensor], Tensor]],
        channels: tuple[int, int],
        size: int,
        precision: TorchPrecision,
    ) -> None:
        """
        Args:
            device: where; from now on it cannot be reset, because PyTorch holds memory of it.
            forward: from a number of rows and the handle of a stream to the network for so many,
                on that stream, its weights on the device.
            channels: of the images that go in and come out.
            size: their side S.
            precision: of the network.
        """
        self._torch: Any = require("torch", "train", "run a checkpoint")
        self.element: Element = "f32" if precision == "fp32" else "f16"
        self.name = f"PyTorch {self._torch.__version__} cuda {precision}, channels last"
        self._forward = forward
        self._channels, self._size = channels, size
        self._kind = torch_kind(self._torch, precision)
        self._pool: Any = None
        device.shared_with_torch = True

    def bind(self, rows: int, source: int, target: int, stream: int) -> Pass:
        torch = self._torch
        self._pool = self._pool or torch.cuda.MemPool()
        pool, own_stream = self._pool, torch.cuda.ExternalStream(stream)
        inputs, outputs = (
            self._tensor(address, rows, channels)
            for address, channels in zip((source, target), self._channels, strict=True)
        )
        with torch.inference_mode():
            network = self._forward(rows, stream)

        def enqueue(_: int) -> None:
            with (
                torch.inference_mode(),
                torch.cuda.stream(own_stream),
                torch.cuda.use_mem_pool(pool),
                torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
            ):
                value = inputs.to(self._kind, memory_format=torch.channels_last)
                outputs.copy_(network(value))

        return Pass(enqueue)

    def close(self) -> None:
        self._pool = None

    def _tensor(self, address: int, rows: int, channels: int) -> Tensor:
        """The memory at an address as a tensor (rows,channels,S,S), without a copy."""
        memory = _Memory(address, (rows, channels, self._size, self._size), self.element)
        tensor: Tensor = self._torch.as_tensor(memory, device="cuda")
        return tensor


class _Memory:
    """Device memory as other libraries take it."""

    def __init__(self, address: int, shape: tuple[int, ...], element: Element) -> None:
        self.__cuda_array_interface__ = {
            "shape": shape,
            "typestr": "<f4" if element == "f32" else "<f2",
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


def torch_kind(torch: Any, precision: TorchPrecision) -> Any:
    """PyTorch's type of a precision."""
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def torch_device_engines(
    device: Device, detector: Detector, precision: TorchPrecision, where: str = "cuda"
) -> tuple[TorchDeviceEngine, TorchDeviceEngine]:
    """Both networks of a detector; it moves to the device and takes the precision.

    Args:
        device: where.
        detector: in evaluation mode.
        precision: of both networks.
        where: PyTorch's name of the device.
    """
    torch = require("torch", "train", "run a checkpoint")
    kind = torch_kind(torch, precision)
    lambdas, size = detector.config.lambdas, detector.config.image_size
    detector.to(where)
    with torch.inference_mode():
        # At fixed λ the time embedding is constant; its angles are too large for half floats.
        steps = torch.tensor(lambdas, device=where)
        shifts = {k: v.to(kind) for k, v in detector.denoiser.shifts(steps).items()}
    detector.to(kind)
    detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    norms = GroupNorms(device, detector, _ELEMENTS[precision])

    def denoiser(rows: int, stream: int) -> Callable[[Tensor], Tensor]:
        own = {k: v.repeat_interleave(rows // len(lambdas), dim=0) for k, v in shifts.items()}

        def predict(x_t: Tensor) -> Tensor:
            norms.stream = stream
            return detector.denoiser.predict(x_t, own)

        return predict

    return (
        TorchDeviceEngine(device, denoiser, (3, 3), size, precision),
        TorchDeviceEngine(device, lambda rows, stream: detector.score, (6, 1), size, precision),
    )


def fused_torch_inspector(
    detector: Detector,
    *,
    precision: TorchPrecision = "fp16",
    seed: int = 0,
    threshold: float = 0.5,
    fresh_noise: bool = False,
    ignore: Mask | None = None,
    pictures: bool = True,
) -> FusedInspector:
    """The fused CUDA runtime on a detector in memory, which takes the precision.

    The other arguments are those of `FusedInspector`.

    Raises:
        MissingDependency: PyTorch or `cuda.bindings` is not installed.
        DeviceError: there is no GPU, or it failed.
        UsageError: the detector is an ablation without noise, which has other steps.
    """
    if not hasattr(detector, "denoiser"):
        raise UsageError(
            f"{type(detector).__name__} puts no noise on the image; the CUDA kernels do.",
            "run it with 'dad-edge evaluate --checkpoint'",
        )
    model = detector.config
    keep, table = keep_mask(model, ignore), alpha_bar_table(model.schedule)
    device = Device()
    with closed_on_error(device):
        engines = torch_device_engines(device, detector, precision)
        alpha_bar = [float(table[step]) for step in model.lambdas]
        element = engines[0].element
        ops = CudaOps(device, model, alpha_bar, seed, element=element, keep=keep)
        return FusedInspector(
            device,
            ops,
            *engines,
            threshold,
            fresh_noise=fresh_noise,
            ignore=ignore,
            pictures=pictures,
        )
