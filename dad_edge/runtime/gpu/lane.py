"""What the frames of one batch pass through on a GPU: tensors, and the CUDA graph over them.

A `Batch` is the tensors for a number of views and the networks bound to them; there is one for
every number. A `Lane` takes frames of given geometries through it and holds what only they use:
the memory that they are copied to, that of their results, the events and the graph.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig
from dad_edge.errors import DataError
from dad_edge.image.framing import ViewPlan, is_plain, plan_views
from dad_edge.runtime.gpu.driver import Device, Event, Graph, Owned, Stream
from dad_edge.runtime.gpu.frames import DeviceFrame, Geometry, HostFrame, lies_elsewhere
from dad_edge.runtime.gpu.ops import COUNT_BYTES, ELEMENT_BYTES, NV12, CudaOps, Pixels, Tensors
from dad_edge.runtime.gpu.scratch import Scratch
from dad_edge.runtime.inspection import STAGES, Computed
from dad_edge.runtime.seams import DeviceEngine, Pass, Pooled

_log = logging.getLogger(__name__)

_ALIGNMENT = 256
_HEADER = _ALIGNMENT
"""Bytes before the frames; the frame counter is the first eight of them."""
_HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)
"""(65536,) the values of all half floats by their bits."""


class Batch:
    """Tensors for a number of views, and the networks bound to them.

    The results lie together so that one copy takes them: the rows of image ⊕ x̂0 at the largest λ,
    which are the last of the segmenter's input, then score map, scores and heat map.
    """

    def __init__(
        self,
        device: Device,
        ops: CudaOps,
        engines: tuple[DeviceEngine, DeviceEngine],
        count: int,
        stream: Stream,
    ) -> None:
        """
        Args:
            device: where.
            ops: for the model and the type of elements.
            engines: denoiser and segmenter.
            count: views.
            stream: that the networks will run on.
        """
        plane, width = ops.model.image_size**2, ELEMENT_BYTES[ops.element]
        rows = count * len(ops.model.lambdas)
        segmented = count if ops.model.fusion == "norm_guided" else rows
        image_bytes = 3 * plane * width
        self.count = count
        self.places = _places(
            {
                "pair": count * 2 * image_bytes,
                "score_map": count * plane * 4,
                "scores": count * 4,
                "heat": count * plane,
                "broken": count * 4,
            }
        )
        """Offsets of the results from the first, and their `end`."""
        earlier = (segmented - count) * 2 * image_bytes
        sizes = (
            count * image_bytes,
            rows * image_bytes,
            rows * image_bytes,
            segmented * plane * width,
            earlier + self.places["end"],
        )
        image, x_t, noise, masks, pair = (device.allocate(size).address for size in sizes)
        self.results = pair + earlier
        """Address of the results."""
        self.tensors = Tensors(
            batch=count,
            image=image,
            x_t=x_t,
            noise=noise,
            pair=pair,
            masks=masks,
            score_map=self.results + self.places["score_map"],
            heat=self.results + self.places["heat"],
            scores=self.results + self.places["scores"],
            counts=device.allocate(count * COUNT_BYTES).address,
            broken=self.results + self.places["broken"],
        )
        denoiser, segmenter = engines
        self.denoise = denoiser.bind(rows, x_t, noise, stream.number)
        self.segment = segmenter.bind(segmented, pair, masks, stream.number)

    @property
    def passes(self) -> tuple[Pass, Pass]:
        """Denoiser and segmenter."""
        return self.denoise, self.segment


class Lane:
    """Frames of given geometries on their way, at most one batch of them at a time."""

    def __init__(
        self,
        device: Device,
        ops: CudaOps,
        geometries: Sequence[Geometry],
        batches: Sequence[Batch],
        scratch: Scratch,
        uploads: Stream,
        work: Stream,
        *,
        pictures: bool,
        stage_times: bool,
    ) -> None:
        """
        Args:
            device: where.
            ops: the kernels.
            geometries: of the frames.
            batches: that their views pass through one after the other.
            scratch: that their networks compute in.
            uploads: stream that frames are copied on.
            work: stream of everything else.
            pictures: whether image and x̂0 come back too, 24 bytes a pixel or 12 in half precision
                beside the 5 of the score map and its heat map.
            stage_times: whether the time of every stage is taken.

        Raises:
            DataError: NV12 frames were to be tiled or padded.
        """
        self.busy = False
        self.plans = [plan_of(geometry, ops.model) for geometry in geometries]
        self._device, self._ops = device, ops
        self._batches, self._scratch = batches, scratch
        self._scratch_bytes = max(each.scratch_bytes for of in batches for each in of.passes)
        self._uploads, self._work = uploads, work
        self._canvases = [
            Geometry(*of.canvas, geometry.pixel_format)
            for geometry, of in zip(geometries, self.plans, strict=True)
        ]
        sizes = {str(i): c.rows * c.row_bytes for i, c in enumerate(self._canvases)}
        self._places = _places({"header": _HEADER, **sizes})
        self._owned: list[Owned] = []
        self._held: list[object] = []
        """Keeps frames in device memory alive while they are copied."""
        self._graph: Graph | None = None
        self._prepared_with: int | None = None
        """Address of the scratch memory at the first run and in the graph."""
        self._host = device.allocate_host(self._places["end"])
        self._owned.append(self._host)
        if device.integrated:
            self._frames = device.mapped(self._host)
        else:
            buffer = device.allocate(self._places["end"])
            self._owned.append(buffer)
            self._frames = buffer.address
        self._first = "pair" if pictures else "score_map"
        """The first of the results that come back; the rest lies behind it."""
        self._results = device.allocate_host(sum(map(self._result_bytes, batches)))
        self._foreign, self._done = device.event(), device.event()
        self._stage_times = stage_times
        self._started, self._arrived = (device.event(timing=stage_times) for _ in range(2))
        ticks = len(STAGES) + 1 if stage_times else 0
        self._ticks = [[device.event(timing=True) for _ in range(ticks)] for _ in batches]
        self._owned += [self._results, self._arrived, self._foreign, self._done, self._started]
        self._owned += [event for ticks in self._ticks for event in ticks]

    def start(self, frames: Sequence[HostFrame | DeviceFrame], counter: int) -> None:
        """Copy frames in and launch everything that follows.

        Args:
            frames: of the lane's geometries.
            counter: frame counter of the noise.

        Raises:
            DataError: a frame in device memory needs padding, or lies on another GPU or in another
                context.
        """
        self._write(frames, counter)
        self._scratch.reserve(self._scratch_bytes)
        self._upload(frames)
        if self._prepared_with != self._scratch.address:
            self._prepare()
        if self._graph is not None:
            self._device.launch_graph(self._graph, self._work)
        else:
            self._enqueue(self._device.record)
        self._device.record(self._done, self._work)
        self.busy = True

    @property
    def is_captured(self) -> bool:
        """Whether it runs as a CUDA graph; True before its first run."""
        return self._prepared_with is None or self._graph is not None

    def finish(self) -> Computed:
        """Wait for the results; the lane is free again."""
        self._device.synchronize(self._done)
        self.busy = False
        self._held.clear()
        firsts = accumulate(map(self._result_bytes, self._batches), initial=0)
        found = [self._read(*each) for each in zip(firsts, self._batches, strict=False)]
        pairs, maps, scores, heats = (
            parts[0] if len(parts) == 1 else np.concatenate(parts)
            for parts in zip(*found, strict=True)
        )
        return Computed(Pooled(maps, heats, scores), pairs[:, :3], pairs[:, 3:], self._times())

    def close(self) -> None:
        """Give back what belongs to this lane; it has to be free."""
        for stream in (self._uploads, self._work):  # a start that failed may have left work there
            self._device.synchronize(stream)
        for owned in reversed(self._owned):
            owned.close()

    def _prepare(self) -> None:
        """Run once, which lets the runtimes do what they do only once, and capture the graph."""
        device, work = self._device, self._work
        if self._graph is not None:
            self._owned.remove(self._graph)
            self._graph.close()
        self._graph = self._prepared_with = None
        self._enqueue()
        device.synchronize(work)
        settled = [each.settle() for batch in self._batches for each in batch.passes]
        if all(settled):
            self._graph = device.capture(work, lambda: self._enqueue(device.record_in_graph))
            self._owned.append(self._graph)
        else:
            _log.warning(
                "the inference runtime cannot be captured in a CUDA graph; it runs without one, "
                "which takes longer"
            )
        self._prepared_with = self._scratch.address

    def _write(self, frames: Sequence[HostFrame | DeviceFrame], counter: int) -> None:
        """Put counter and frames into page-locked memory, padded to their canvas."""
        self._host.bytes[:8].view(np.uint64)[0] = counter & (2**64 - 1)
        for index, (frame, canvas) in enumerate(zip(frames, self._canvases, strict=True)):
            if isinstance(frame, DeviceFrame):
                continue
            place, size = self._places[str(index)], canvas.rows * canvas.row_bytes
            whole = self._host.bytes[place : place + size].reshape(canvas.rows, canvas.width, -1)
            rows, columns = frame.pixels.shape[:2]
            whole[:rows, :columns] = frame.pixels.reshape(rows, columns, -1)
            whole[:rows, columns:] = whole[:rows, columns - 1 : columns]
            whole[rows:] = whole[rows - 1]

    def _upload(self, frames: Sequence[HostFrame | DeviceFrame]) -> None:
        """Copy to the device what is not there yet, and let the kernels wait for it."""
        device, stream = self._device, self._uploads
        if self._stage_times:
            device.record(self._started, stream)
        if not device.integrated:
            outside = any(isinstance(frame, HostFrame) for frame in frames)
            size = self._places["end"] if outside else _HEADER
            device.copy_in(self._frames, self._host.address, size, stream)
        for index, (frame, canvas) in enumerate(zip(frames, self._canvases, strict=True)):
            if isinstance(frame, HostFrame):
                continue
            self._check(frame, canvas)
            place = self._frames + self._places[str(index)]
            for plane in frame.planes:
                if plane.foreign_stream is not None:
                    device.wait_for_foreign(stream, plane.foreign_stream, self._foreign)
                self._held.append(plane.owner)
                width = canvas.row_bytes
                device.copy_rows(place, plane.address, plane.pitch, width, plane.rows, stream)
                place += width * plane.rows
        device.record(self._arrived, stream)
        device.wait(self._work, self._arrived)

    def _check(self, frame: DeviceFrame, canvas: Geometry) -> None:
        if frame.geometry != canvas:
            raise DataError(
                "frames in device memory are not padded to the model's aspect.",
                "pad them on the device, or give NumPy arrays",
            )
        for plane in frame.planes:
            ordinal = self._device.ordinal_of(plane.address)
            if ordinal != self._device.ordinal:
                raise lies_elsewhere(ordinal, self._device.ordinal)
            if self._device.is_foreign(plane.address):
                raise DataError(
                    "a frame lies in the memory of another CUDA context than the inspector's.",
                    "with PyCUDA, import pycuda.autoprimaryctx instead of pycuda.autoinit; with "
                    "other libraries, use the primary context of the GPU",
                )

    def _views(self) -> list[Pixels]:
        """Where the views of all frames lie on the device."""
        views = []
        for index, (of, canvas) in enumerate(zip(self.plans, self._canvases, strict=True)):
            place, pitch = self._frames + self._places[str(index)], canvas.row_bytes
            step = pitch // canvas.width
            for y, x in of.frame_boxes:
                address = place + y.start * pitch + x.start * step
                height, width = y.stop - y.start, x.stop - x.start
                views.append(Pixels(address, pitch, height, width, canvas.pixel_format))
        return views

    def _enqueue(self, record: Callable[[Event, Stream], None] | None = None) -> None:
        """Everything between the frames on the device and the results in page-locked memory.

        Args:
            record: marks the ends of the stages; they are not marked if None.
        """
        views, target = self._views(), self._results.address
        for batch, ticks in zip(self._batches, self._ticks, strict=True):
            own, views = views[: batch.count], views[batch.count :]
            marks = iter(ticks)

            def mark(marks: Iterator[Event] = marks) -> None:
                if record is not None and self._stage_times:
                    record(next(marks), self._work)

            mark()
            self._ops.inject(own, self._frames, batch.tensors, self._work)
            mark()
            batch.denoise.enqueue(self._scratch.address)
            mark()
            self._ops.restore(batch.tensors, self._work)
            mark()
            batch.segment.enqueue(self._scratch.address)
            mark()
            self._ops.pool(batch.tensors, self._work)
            source, size = batch.results + batch.places[self._first], self._result_bytes(batch)
            self._device.copy_out(target, source, size, self._work)
            mark()
            target += size

    def _result_bytes(self, batch: Batch) -> int:
        """Bytes of the results of a batch that come back."""
        return batch.places["end"] - batch.places[self._first]

    def _read(
        self, first: int, batch: Batch
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Pairs, score maps, scores and heat maps of one batch, from page-locked memory."""
        size = self._ops.model.image_size

        def part(name: str, kind: type[np.generic], *shape: int) -> NDArray[Any]:
            begin = first + batch.places[name] - batch.places[self._first]
            end = begin + int(np.prod(shape)) * np.dtype(kind).itemsize
            values = self._results.bytes[begin:end]
            if kind == np.float16:  # NumPy converts them one by one, in four times the time
                return np.take(_HALVES, values.view(np.uint16)).reshape(shape)
            return values.view(kind).reshape(shape).copy()

        count, element = batch.count, np.float16 if self._ops.element == "f16" else np.float32
        nothing = np.zeros((count, 6, 0, 0), np.float32)
        return (
            part("pair", element, count, 6, size, size) if self._first == "pair" else nothing,
            part("score_map", np.float32, count, size, size),
            part("scores", np.float32, count),
            part("heat", np.uint8, count, size, size),
        )

    def _times(self) -> dict[str, float]:
        """Milliseconds of every stage; inject has the copy in, pool has the copy out."""
        if not self._stage_times:
            return {}
        elapsed = self._device.elapsed_ms
        times = dict.fromkeys(STAGES, 0.0)
        for ticks in self._ticks:
            for stage, start, end in zip(STAGES, ticks, ticks[1:], strict=False):
                times[stage] += elapsed(start, end)
        times["inject"] += elapsed(self._started, self._arrived)
        return times


def plan_of(geometry: Geometry, model: ModelConfig) -> ViewPlan:
    """The views of a frame.

    Raises:
        DataError: it is NV12, whose planes cannot be cut or padded, and the model does.
    """
    if geometry.pixel_format in NV12 and not is_plain(model.framing):
        raise DataError(
            "NV12 frames cannot be tiled or padded.", "convert them to BGR, or use grey frames"
        )
    return plan_views((geometry.height, geometry.width), model)


def _places(sizes: dict[str, int]) -> dict[str, int]:
    """Aligned offsets of parts that lie one behind the other, and their `end`."""
    places, end = {}, 0
    for name, size in sizes.items():
        places[name] = end
        end += -(-size // _ALIGNMENT) * _ALIGNMENT
    return {**places, "end": end}
