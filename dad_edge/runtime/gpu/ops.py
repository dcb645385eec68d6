"""The steps around the networks as CUDA kernels, enqueued on a stream at fixed addresses.

Bytes that a batch of B frames moves at least, for comparing a measured time with the memory
bandwidth; P = S² pixels, L time steps, e bytes an element (4 or 2), F bytes of the frames:

| kernel | reads | writes |
|---|---|---|
| inject | F | 3·P·B·e (image), 3·P·L·B·e (x_t) |
| restore | 3·P·B·e·(1 + 2·L) | 6·P·L·B·e |
| restore_guided | 15·P·B·e | 6·P·B·e |
| pool_map | P·R·e, R rows of masks (L·B, or B if guided) | 4·P·B (map), P·B (heat) |
| pool_count | 4·P·B, three times: the map, which stays in the L2 cache | |
| pool_score | 4·P·B | 4·B |

The counts of pixels by digit, 24 KiB a frame, stay in the L2 cache too and are left out.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig
from dad_edge.kernels.compile import KERNELS, find_cubin
from dad_edge.model import diffusion
from dad_edge.runtime.gpu.driver import Buffer, Device, Module, Stream
from dad_edge.runtime.seams import Element

PixelFormat = Literal["bgr", "rgb", "grey", "nv12", "nv12-bt709"]
"""Of a frame. NV12 has its colours by ITU-R BT.601 or BT.709, in limited range; cameras and
decoders of 720 lines and more usually give BT.709."""
NV12: tuple[PixelFormat, ...] = ("nv12", "nv12-bt709")

ELEMENT_BYTES: dict[Element, int] = {"f32": 4, "f16": 2}
_FORMATS: dict[PixelFormat, int] = {"bgr": 0, "rgb": 1, "grey": 2, "nv12": 3, "nv12-bt709": 4}
_THREADS = 256
_SCORE_THREADS = 1024
_DIGITS, _BINS = 3, 2048
COUNT_BYTES = 4 * _DIGITS * _BINS
"""Of the counts of one frame, see `Tensors.counts`."""

_address = ctypes.c_void_p
_int = ctypes.c_int
_long = ctypes.c_longlong
_float = ctypes.c_float


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where the pixels of one view lie on the device."""

    address: int
    pitch: int
    """Bytes from row to row."""
    height: int
    width: int
    pixel_format: PixelFormat


@dataclass(frozen=True, slots=True)
class Tensors:
    """Addresses of everything a batch of B views passes through; shapes as in the kernels."""

    batch: int
    image: int
    x_t: int
    noise: int
    pair: int
    masks: int
    score_map: int
    heat: int
    scores: int
    counts: int
    """(B,3,2048) uint32, pixels by digit on the way to the scores."""
    broken: int
    """(B) uint32, not 0 where a network gave a value that is not finite."""


class CudaOps:
    """Inject, restore and pool on a GPU."""

    name = "CUDA"

    def __init__(
        self,
        device: Device,
        model: ModelConfig,
        alpha_bar: Sequence[float],
        seed: int = 0,
        *,
        element: Element = "f32",
        keep: NDArray[np.bool_] | None = None,
        cubins: Path | None = None,
    ) -> None:
        """
        Args:
            device: where; it frees what this allocates.
            model: the bundle's model settings.
            alpha_bar: ᾱ at each λ.
            seed: key of the noise.
            element: type of all tensors but the score map.
            keep: (S,S), False where pixels are ignored.
            cubins: folder with kernels that were compiled ahead of time.

        Raises:
            DeviceError, MissingDependency: the kernels cannot be compiled or loaded.
        """
        self.model = model
        self.element = element
        self._device = device
        self._seed = seed & (2**64 - 1)
        self._modules: list[Module] = []
        self._kernels: dict[str, object] = {}
        names = {
            "inject": [f"inject_{element}"],
            "restore": [f"restore_{element}", f"restore_guided_{element}"],
            "pool": [f"pool_map_{element}", "pool_count", "pool_score"],
        }
        for file in KERNELS:
            module = device.load(find_cubin(file, device.arch, cubins))
            self._modules.append(module)
            for name in names[file]:
                self._kernels[name] = device.function(module, name)
        bars = np.asarray(alpha_bar, np.float32)
        self._signal, self._noise = np.sqrt(bars), np.sqrt(1 - bars)
        self._buffers: list[Buffer] = [device.upload(self._signal), device.upload(self._noise)]
        self._keep = 0
        if keep is not None:
            self._buffers.append(device.upload(keep.astype(np.uint8)))
            self._keep = self._buffers[-1].address

    def inject(
        self, views: Sequence[Pixels], counter: int, tensors: Tensors, stream: Stream
    ) -> None:
        """Views → image and x_t.

        Args:
            views: one for every row of the batch.
            counter: address of the frame counter, uint64.
            tensors: of the batch.
            stream: where.
        """
        low, high = self.model.value_range
        for row, view in enumerate(views):
            self._launch(
                f"inject_{self.element}",
                (self._blocks(3), 1),
                stream,
                _address(view.address),
                _long(0),
                _long(view.pitch),
                _long(view.height * view.pitch),
                _int(view.height),
                _int(view.width),
                _int(_FORMATS[view.pixel_format]),
                _address(tensors.image),
                _address(tensors.x_t),
                _address(tensors.broken),
                _int(self.model.image_size),
                _int(row),
                _int(tensors.batch),
                _int(len(self.model.lambdas)),
                _address(self._buffers[0].address),
                _address(self._buffers[1].address),
                _float(high - low),
                _float(low),
                ctypes.c_ulonglong(self._seed),
                _address(counter),
                _int(0),
            )

    def restore(self, tensors: Tensors, stream: Stream) -> None:
        """x_t, noise and image → image ⊕ x̂0."""
        size, batch = self.model.image_size, tensors.batch
        low, high = (_float(value) for value in diffusion.CLAMP)
        if self.model.fusion != "norm_guided":
            self._launch(
                f"restore_{self.element}",
                (self._blocks(3), len(self.model.lambdas) * batch),
                stream,
                _address(tensors.image),
                _address(tensors.x_t),
                _address(tensors.noise),
                _address(tensors.pair),
                _address(tensors.broken),
                _int(size),
                _int(batch),
                _address(self._buffers[0].address),
                _address(self._buffers[1].address),
                low,
                high,
            )
            return
        level = 3 * size * size * batch * ELEMENT_BYTES[self.element]
        self._launch(
            f"restore_guided_{self.element}",
            (self._blocks(3), batch),
            stream,
            _address(tensors.image),
            _address(tensors.x_t),
            _address(tensors.noise),
            _address(tensors.x_t + level),
            _address(tensors.noise + level),
            _address(tensors.pair),
            _address(tensors.broken),
            _int(size),
            _float(self._signal[0]),
            _float(self._noise[0]),
            _float(self._signal[1]),
            _float(self._noise[1]),
            _float(1.0),
            low,
            high,
        )

    def pool(self, tensors: Tensors, stream: Stream) -> None:
        """Masks → score map, heat map and scores."""
        size = self.model.image_size
        levels = 1 if self.model.fusion == "norm_guided" else len(self.model.lambdas)
        self._launch(
            f"pool_map_{self.element}",
            (self._blocks(1), tensors.batch),
            stream,
            _address(tensors.masks),
            _address(self._keep),
            _address(tensors.broken),
            _address(tensors.score_map),
            _address(tensors.heat),
            _address(tensors.counts),
            _int(size),
            _int(levels),
        )
        for digit in range(_DIGITS):
            self._launch(
                "pool_count",
                (self._blocks(1), tensors.batch),
                stream,
                _address(tensors.score_map),
                _address(self._keep),
                _address(tensors.counts),
                _int(size),
                _int(self.model.top_k),
                _int(digit),
            )
        self._launch(
            "pool_score",
            (tensors.batch, 1),
            stream,
            _address(tensors.score_map),
            _address(self._keep),
            _address(tensors.counts),
            _address(tensors.scores),
            _int(size),
            _int(self.model.top_k),
            threads=_SCORE_THREADS,
        )

    def close(self) -> None:
        """Give the kernels and constants back."""
        for owned in (*self._buffers, *self._modules):
            owned.close()

    def _blocks(self, planes: int) -> int:
        """Blocks for `planes` planes of pixels when a thread makes four elements."""
        elements = planes * self.model.image_size**2
        return -(-elements // (4 * _THREADS))

    def _launch(
        self,
        kernel: str,
        grid: tuple[int, int],
        stream: Stream,
        *arguments: object,
        threads: int = _THREADS,
    ) -> None:
        self._device.launch(self._kernels[kernel], grid, threads, stream, arguments)
