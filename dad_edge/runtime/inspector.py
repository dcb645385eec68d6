"""Frames in, verdicts out: inject ▶ denoise ▶ restore ▶ segment ▶ pool ▶ verdict (Algorithm 2)."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.errors import DataError
from dad_edge.framing import Mask, Plan, ignored_at, is_plain, merge, plan, views
from dad_edge.runtime.engine_onnx import OnnxEngine
from dad_edge.runtime.engines import load_engine
from dad_edge.runtime.ops_numpy import NumpyOps, heat_of, top_mean
from dad_edge.runtime.seams import Array, Engine, Injected, Inspection, Ops, Pooled, Verdict

_Joined = tuple[
    float, NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]
]
STAGES = ("inject", "denoise", "restore", "segment", "pool")


class Inspector:
    """Inspects frames with one bundle on one backend."""

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
        self.threshold = threshold
        self.ignore = ignore
        self._ops = ops
        self._denoiser = denoiser
        self._segmenter = segmenter
        self._fresh_noise = fresh_noise
        self._counter = 0

    @property
    def backend(self) -> str:
        """What runs, in words, as printed and written into every result."""
        return f"{self._ops.name} + {self._denoiser.name}"

    def inspect(self, frame: NDArray[np.uint8]) -> Inspection:
        """Inspect one frame (H,W,3) uint8 BGR of any size."""
        return self.inspect_batch([frame])[0]

    def inspect_batch(self, frames: Sequence[NDArray[np.uint8]]) -> list[Inspection]:
        """Inspect frames together.

        Raises:
            DataError: there is no frame, one is not (H,W,3) uint8 with at least one pixel, or the
                ignore mask leaves nothing of it.
        """
        _check(frames)
        clock = [time.perf_counter()]

        def tick() -> None:
            clock.append(time.perf_counter())

        plans = [plan(frame.shape, self._ops.model) for frame in frames]
        parts = [part for frame, of in zip(frames, plans, strict=True) for part in views(frame, of)]
        injected = self._ops.inject(parts, self._counter)
        tick()
        noise = self._denoiser.run({"x_t": injected.x_t})["noise"]
        tick()
        pair = self._ops.restore(injected.x_t, noise, injected.image)
        tick()
        masks = self._segmenter.run({"pair": pair})["mask"]
        tick()
        pooled = self._ops.pool(masks, len(parts))
        found = self._join(plans, pooled, injected, pair[-len(parts) :, 3:])
        tick()
        self._counter += self._fresh_noise
        stage_ms = {
            stage: (end - start) * 1e3
            for stage, start, end in zip(STAGES, clock, clock[1:], strict=False)
        }
        return [
            Inspection(
                score=score,
                verdict=verdict_of(score, self.threshold),
                score_map=score_map,
                heat=heat,
                image=image,
                restored=restored,
                stage_ms=stage_ms,
            )
            for score, score_map, heat, image, restored in found
        ]

    def _join(
        self, plans: list[Plan], pooled: Pooled, injected: Injected, restored: Array
    ) -> list[_Joined]:
        """Score, score map, heat map, image and x̂0 of every frame from those of its views."""
        if is_plain(self._ops.model.framing) and self.ignore is None:
            rows = (pooled.score_map, pooled.heat, injected.image, restored)
            return [
                (float(score), *row)
                for score, row in zip(pooled.scores, zip(*rows, strict=True), strict=True)
            ]
        joined: list[_Joined] = []
        first = 0
        for of in plans:
            own = slice(first, first + len(of.map_boxes))
            first = own.stop
            score_map = merge(pooled.score_map[own], of)
            ignored = ignored_at(self.ignore, of.shape)
            score = top_mean(score_map[~ignored][None], self._ops.model.top_k)[0]
            score_map[ignored] = 0
            image, estimate = merge(injected.image[own], of), merge(restored[own], of)
            joined.append((float(score), score_map, heat_of(score_map), image, estimate))
        return joined


def verdict_of(score: float, threshold: float) -> Verdict:
    """The verdict on a score; one that is not a finite number is never good."""
    if not math.isfinite(score):
        return "invalid"
    return "defect" if score > threshold else "good"


def _check(frames: Sequence[NDArray[np.uint8]]) -> None:
    if not frames:
        raise DataError("no frame to inspect.", "give at least one frame")
    for frame in frames:
        if frame.dtype != np.uint8 or frame.ndim != 3 or frame.shape[2] != 3 or not frame.size:
            raise DataError(
                f"a frame must be (H,W,3) uint8 BGR, got shape {frame.shape} of {frame.dtype}.",
                "convert it with dad_edge.preprocess.as_frame",
            )


def open_inspector(
    bundle: Bundle,
    *,
    seed: int = 0,
    fresh_noise: bool = False,
    threads: int | None = None,
    engine: str | None = None,
) -> Inspector:
    """An inspector for a bundle on the CPU.

    Args:
        bundle: a checked bundle.
        seed: key of the noise.
        fresh_noise: new noise for every frame.
        threads: threads that compute; all usable cores if None.
        engine: name of a built engine; the bundle's graphs in FP32 if None.

    Raises:
        DeviceError, ModelError: the engine does not fit (see `load_engine`).
    """
    denoiser: Engine
    segmenter: Engine
    if engine is None:
        denoiser = OnnxEngine(bundle.path / DENOISER, threads=threads)
        segmenter = OnnxEngine(bundle.path / SEGMENTER, threads=threads)
    else:
        denoiser, segmenter = load_engine(bundle, engine, threads=threads)
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar, seed)
    threshold = bundle.thresholds.image_threshold if bundle.thresholds else 0.5
    return Inspector(
        ops, denoiser, segmenter, threshold, fresh_noise=fresh_noise, ignore=bundle.ignore
    )
