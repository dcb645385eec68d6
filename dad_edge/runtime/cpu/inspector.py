"""Inspection with the steps around the networks in host memory."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DataError
from dad_edge.image.framing import is_plain, plan_views, views
from dad_edge.image.masks import Mask
from dad_edge.runtime.inspection import STAGES, Computed, Inspector, all_finite
from dad_edge.runtime.seams import Engine, Inspection, Ops, Pooled


class HostInspector(Inspector):
    """Inspects with the steps around the networks in host memory; one thread at a time.

    A frame whose denoiser or segmenter gave a value that is not finite is
    `invalid`, alone in its batch.
    """

    def __init__(
        self,
        ops: Ops,
        denoiser: Engine,
        segmenter: Engine,
        threshold: float,
        *,
        fresh_noise: bool = False,
        ignore: Mask | None = None,
    ) -> None:
        """
        Args:
            ops: the steps around the networks.
            denoiser: `x_t` → `noise`.
            segmenter: `pair` → `mask`.
            threshold: scores above it are defects.
            fresh_noise: new noise for every call; by default the same part always gets the same
                score.
            ignore: (H,W) of any size, laid over every frame: True where nothing is inspected.
        """
        super().__init__(ops.model, threshold, ignore)
        self._ops = ops
        self._denoiser = denoiser
        self._segmenter = segmenter
        self._fresh_noise = fresh_noise
        self._counter = 0

    @property
    def backend(self) -> str:
        return f"{self._ops.name} + {self._denoiser.name}"

    def inspect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Inspection]:
        _check(frames)
        clock = [time.perf_counter()]

        def tick() -> None:
            clock.append(time.perf_counter())

        plans = [plan_views(frame.shape, self._ops.model) for frame in frames]
        parts = [
            part for frame, plan in zip(frames, plans, strict=True) for part in views(frame, plan)
        ]
        injected = self._ops.inject(parts, self._counter)
        tick()
        noise = self._denoiser.run({"x_t": injected.x_t})["noise"]
        tick()
        pair = self._ops.restore(injected.x_t, noise, injected.image)
        tick()
        masks = self._segmenter.run({"pair": pair})["mask"]
        tick()
        pooled = _marked(self._ops.pool(masks, len(parts)), noise)
        tick()
        self._counter += self._fresh_noise
        stage_ms = {
            stage: (end - start) * 1e3
            for stage, start, end in zip(STAGES, clock, clock[1:], strict=False)
        }
        computed = Computed(pooled, injected.image, pair[-len(parts) :, 3:], stage_ms)
        final = is_plain(self._model.framing) and self.ignore is None
        return self._results(plans, computed, final=final)


def _marked(pooled: Pooled, noise: NDArray[np.float32]) -> Pooled:
    """The result without numbers where the denoiser gave none.

    The clamp of x̂0 and the segmenter's ReLU turn them into numbers again.
    """
    finite = all_finite(noise.reshape(len(noise), -1)).reshape(-1, len(pooled.scores)).all(axis=0)
    if not finite.all():
        pooled.score_map[~finite] = np.nan
        pooled.heat[~finite] = 255
        pooled.scores[~finite] = np.nan
    return pooled


def _check(frames: Sequence[NDArray[np.uint8]]) -> None:
    if not frames:
        raise DataError("no frame to inspect.", "give at least one frame")
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise DataError(
                f"a frame must be (H,W,3) uint8 BGR, got shape {frame.shape} of {frame.dtype}.",
                "convert it with dad_edge.image.preprocess.as_frame",
            )
