"""The streaming runtime on an NVIDIA GPU: three kernels, two networks, one CUDA graph a batch.

Memory is allocated once. Frames are written into page-locked memory, copied to the device on one
stream, and everything after that, from the first kernel to the copy of the results, is one CUDA
graph on another. The copy stays outside of the graph, so that the next frame arrives while this
one is computed; an integrated GPU reads the page-locked memory itself and nothing is copied.

Frames of a batch may differ in size and come from several cameras. Tiles and padding are views of a
frame and rows of a batch; their maps are merged on the CPU as everywhere.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig
from dad_edge.errors import DataError, DeviceError, ModelError
from dad_edge.image.framing import ignored_at, is_plain
from dad_edge.image.masks import Mask
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.frames import Geometry, describe
from dad_edge.runtime.gpu.lane import Batch, Lane, plan_of
from dad_edge.runtime.gpu.ops import CudaOps, PixelFormat
from dad_edge.runtime.gpu.scratch import Scratch
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import DeviceEngine, Inspection

_LANES = 2
"""Batches of one geometry on their way at once."""
_GEOMETRIES = 4
"""Geometries whose graphs are kept."""

_Key = tuple[Geometry, ...]


class FusedInspector(Inspector):
    """Inspects frames on a GPU; to be used from one thread."""

    def __init__(
        self,
        device: Device,
        ops: CudaOps,
        denoiser: DeviceEngine,
        segmenter: DeviceEngine,
        threshold: float,
        *,
        fresh_noise: bool = False,
        ignore: Mask | None = None,
        pictures: bool = True,
        stage_times: bool = True,
    ) -> None:
        """
        Args:
            device: where; closed with this inspector, like everything below.
            ops: the kernels, made with the `keep_mask` of `ignore`.
            denoiser: `x_t` → `noise`.
            segmenter: `pair` → `mask`.
            threshold: scores above it are defects.
            fresh_noise: new noise for every batch; by default the same part always gets the same
                score.
            ignore: (H,W) of any size, laid over every frame: True where nothing is inspected. It
                cannot be changed later.
            pictures: whether inspections have their image and x̂0.
            stage_times: whether they have the time of every stage, for which the GPU takes notes.

        Raises:
            ModelError: the networks and the kernels are for different types of elements.
        """
        super().__init__(ops.model, threshold, ignore)
        elements = {"kernels": ops.element, "denoiser": denoiser.element}
        elements["segmenter"] = segmenter.element
        if len(set(elements.values())) > 1:
            raise ModelError(
                f"the tensors of this engine have different types: {elements}.",
                "build the engine again with this version of dad-edge",
            )
        self._device = device
        self._ops = ops
        self._engines = (denoiser, segmenter)
        self._fresh_noise = fresh_noise
        self._pictures, self._stage_times = pictures, stage_times
        self._counter = 0
        self._streams = (device.stream(), device.stream())
        self._scratch = Scratch(device, self._streams[1])
        self._batches: dict[int, Batch] = {}
        self._lanes: OrderedDict[_Key, list[Lane]] = OrderedDict()
        self._closed = False
        levels = len(ops.model.lambdas)
        segmented = 1 if ops.model.fusion == "norm_guided" else levels
        limits = [
            engine.max_rows // rows
            for engine, rows in ((denoiser, levels), (segmenter, segmented))
            if engine.max_rows
        ]
        self._largest_batch = min(limits, default=None)

    @property
    def backend(self) -> str:
        name = f"{self._ops.name} kernels on {self._device.name} + {self._engines[0].name}"
        captured = all(lane.is_captured for lanes in self._lanes.values() for lane in lanes)
        return name if captured else f"{name}, without a CUDA graph"

    @property
    def depth(self) -> int:
        return _LANES

    def inspect(self, frame: Any, pixel_format: PixelFormat = "bgr") -> Inspection:
        """Inspect one frame, see `submit`."""
        return self.inspect_batch([frame], pixel_format)[0]

    def inspect_batch(
        self, frames: Sequence[Any], pixel_format: PixelFormat = "bgr"
    ) -> list[Inspection]:
        return self.collect(self.submit(frames, pixel_format))

    def inspect_each(
        self, frames: Iterable[Any], pixel_format: PixelFormat = "bgr"
    ) -> Iterator[Inspection]:
        """Inspect frames one by one, copying each in while the one before is computed."""
        waiting: Lane | None = None
        try:
            for frame in frames:
                before, waiting = waiting, self.submit([frame], pixel_format)
                if before is not None:
                    yield self.collect(before)[0]
            if waiting is not None:
                yield self.collect(waiting)[0]
        finally:
            if waiting is not None and waiting.busy:
                waiting.finish()  # whoever asked for the results went away

    def submit(self, frames: Sequence[Any], pixel_format: PixelFormat = "bgr") -> Lane:
        """Start the inspection of frames together; two may be on their way at once.

        Args:
            frames: of any sizes; NumPy arrays may be changed as soon as this returns, device
                memory only after `collect`.
            pixel_format: `bgr` and `rgb` (H,W,3), `grey` (H,W), `nv12` and `nv12-bt709` (3H/2,W) or
                a tuple of luma (H,W) and chroma (H/2,W); uint8.

        Returns:
            What `collect` takes.

        Raises:
            DataError: there is no frame, or one is not as described.
            DeviceError: the GPU or the inference runtime failed.
        """
        if self._closed:
            raise DeviceError("this inspector is closed.", "open it again with open_inspector")
        if not frames:
            raise DataError("no frame to inspect.", "give at least one frame")
        self._device.use()
        place = self._streams[0].number, self._device.ordinal
        described = [describe(frame, pixel_format, *place) for frame in frames]
        lane = self._lane(tuple(frame.geometry for frame in described))
        lane.start(described, self._counter)
        self._counter += self._fresh_noise
        return lane

    def collect(self, submission: Lane) -> list[Inspection]:
        """Wait for frames and hand their results out.

        Raises:
            DeviceError: the GPU failed; if it was lost, close this inspector and open it again.
        """
        self._device.use()
        computed = submission.finish()
        return self._results(submission.plans, computed, final=is_plain(self._model.framing))

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._device.finish()
        self._lanes.clear()
        self._batches.clear()
        for engine in self._engines:
            engine.close()
        self._device.close()

    def _lane(self, key: _Key) -> Lane:
        """An idle lane for frames of these geometries, a new one if there is none."""
        lanes = self._lanes.setdefault(key, [])
        self._lanes.move_to_end(key)
        for lane in lanes:
            if not lane.busy:
                return lane
        if len(lanes) == _LANES:
            raise DeviceError(
                f"{_LANES} batches are on their way already.", "collect one before the next"
            )
        idle = [k for k, kept in self._lanes.items() if not any(lane.busy for lane in kept)]
        for old in idle[: max(0, len(self._lanes) - _GEOMETRIES)]:
            if old != key:
                for lane in self._lanes.pop(old):
                    lane.close()
        views = sum(len(of.frame_boxes) for of in (plan_of(g, self._model) for g in key))
        batches = self._chunks(views)
        with self._device.all_or_nothing():
            lane = Lane(
                self._device,
                self._ops,
                key,
                batches,
                self._scratch,
                *self._streams,
                pictures=self._pictures,
                stage_times=self._stage_times,
            )
        lanes.append(lane)
        return lanes[-1]

    def _chunks(self, views: int) -> list[Batch]:
        """Batches that so many views pass through one after the other."""
        largest = min(views, self._largest_batch or views)
        counts = [min(largest, views - first) for first in range(0, views, largest)]
        work = self._streams[1]
        for count in set(counts) - self._batches.keys():
            with self._device.all_or_nothing():
                self._batches[count] = Batch(self._device, self._ops, self._engines, count, work)
        return [self._batches[count] for count in counts]


def keep_mask(model: ModelConfig, ignore: Mask | None) -> NDArray[np.bool_] | None:
    """Which pixels the pool kernel counts: (S,S), or None for all.

    Maps of tiled and padded frames are merged first and masked on the CPU.

    Raises:
        DataError: the ignore mask leaves nothing to inspect.
    """
    if ignore is None or not is_plain(model.framing):
        return None
    return ~ignored_at(ignore, (model.image_size, model.image_size))
