"""The two seams of the runtime: what a backend has to implement, and what an inspection is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig

Element = Literal["f32", "f16"]
"""Type of the elements of a tensor on a GPU."""

Verdict = Literal["good", "defect", "invalid"]

Array = Any
"""A tensor of the backend: `numpy.ndarray` on the CPU, a device buffer on a GPU."""


class Injected(NamedTuple):
    """Output of `Ops.inject`."""

    image: Array
    """(B,3,S,S) float32, RGB, in the model's value range."""
    x_t: Array
    """(L·B,3,S,S) float32, row l·B + b, Eq. 2."""


class Pooled(NamedTuple):
    """Output of `Ops.pool`."""

    score_map: NDArray[np.float32]
    """(B,S,S) float32 in [0,1], mean over the λ."""
    heat: NDArray[np.uint8]
    """(B,S,S) uint8, the score map on the fixed scale 0..1 → 0..255."""
    scores: NDArray[np.float32]
    """(B,) float32, mean of the K highest pixels."""


class Ops(Protocol):
    """The three steps around the networks."""

    name: str
    model: ModelConfig
    """Image size, framing and K."""

    def inject(self, frames: Sequence[NDArray[np.uint8]], counter: int) -> Injected:
        """Frames (H,W,3) uint8 BGR of any size → image and noisy images."""
        ...

    def restore(self, x_t: Array, noise: Array, image: Array) -> Array:
        """(L·B,3,S,S) twice and (B,3,S,S) → image ⊕ x̂0: (L·B,6,S,S), or (B,6,S,S) if guided."""
        ...

    def pool(self, masks: Array, batch: int) -> Pooled:
        """(L·B,1,S,S), or (B,1,S,S) if guided → score map, heat map and image score."""
        ...


class Engine(Protocol):
    """One network on one inference runtime."""

    name: str
    """Runtime, device and precision in words, as printed and written into every result."""

    def run(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Named tensors in, named tensors out."""
        ...


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass of a network over tensors at fixed addresses, on one stream."""

    enqueue: Callable[[int], None]
    """Enqueues it, given the address of the memory that it computes in. The second call and later
    ones allocate nothing and wait for nothing."""
    scratch_bytes: int = 0
    """Size of that memory; between two passes other work may write to it."""
    settle: Callable[[], bool] = lambda: True
    """To be called when the first pass is over: keeps what the runtime has learned for the next
    start, and returns whether later passes can be captured in a CUDA graph."""


class DeviceEngine(Protocol):
    """One network on a runtime that reads and writes device memory at fixed addresses."""

    name: str
    """Runtime, device and precision in words, as printed and written into every result."""
    element: Element
    """Type of both tensors."""
    max_rows: int | None
    """Largest number of rows (images of the network) at once; None where there is no limit."""

    def bind(self, rows: int, source: int, target: int, stream: int) -> Pass:
        """Prepare the network for tensors of so many rows at these addresses, on a stream."""
        ...

    def close(self) -> None:
        """Give the network back; functions from `bind` may not be called any more."""
        ...


@dataclass(frozen=True, slots=True)
class Inspection:
    """Result of one frame."""

    score: float
    """Mean of the K highest pixels of the score map."""
    verdict: Verdict
    """`invalid` where the score is not a number or means nothing; such a part is never good."""
    score_map: NDArray[np.float32]
    """(h,w) float32 in [0,1] that covers the frame; (S,S) without tiles and padding."""
    heat: NDArray[np.uint8]
    """(h,w) uint8, fixed scale."""
    image: NDArray[np.float32]
    """(3,h,w) float32, RGB: what the networks saw; (3,0,0) where a GPU leaves pictures out."""
    restored: NDArray[np.float32]
    """(3,h,w) float32, RGB: x̂0 at the largest λ, or the guided x̂0; (3,0,0) as above."""
    stage_ms: dict[str, float]
    """Milliseconds of each step, shared by the frames of a batch; empty where a GPU was not to
    take them."""
    reason: str | None = None
    """Why the verdict is `invalid`, in a few words; None for other verdicts."""
