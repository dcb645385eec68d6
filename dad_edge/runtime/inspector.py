"""Frames in, verdicts out: inject ▶ denoise ▶ restore ▶ segment ▶ pool ▶ verdict (Algorithm 2)."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, ENGINES, SEGMENTER, Bundle
from dad_edge.errors import DataError
from dad_edge.image.framing import Mask, is_plain, plan, views
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.ops import NumpyOps, all_finite
from dad_edge.runtime.engines import (
    CPU_RUNTIMES,
    accepted_engine,
    find_engine,
    load_engine,
)
from dad_edge.runtime.gpu.driver import Device, closed_on_error
from dad_edge.runtime.gpu.engine_tensorrt import TensorRtEngine
from dad_edge.runtime.gpu.inspector import FusedInspector, keep_mask
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.inspection import STAGES, Computed, Inspector
from dad_edge.runtime.seams import Engine, Inspection, Ops, Pooled
from dad_edge.runtime.sidecar import KERNEL_FOLDER, Sidecar, thresholds_for


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


def open_inspector(
    bundle: Bundle,
    *,
    seed: int = 0,
    fresh_noise: bool = False,
    threads: int | None = None,
    engine: str | None = None,
    even_if_rejected: bool = False,
) -> Inspector:
    """An inspector for a bundle: the fastest that is known to be right here.

    It has the thresholds that hold for the engine.

    Args:
        bundle: a checked bundle.
        seed: key of the noise.
        fresh_noise: new noise for every frame.
        threads: threads that compute on a CPU; all usable cores if None.
        engine: name of a built engine; if None a TensorRT engine for this machine's GPU, or on the
            CPU an accepted INT8 engine of OpenVINO, or the bundle's graphs in FP32.
        even_if_rejected: open a named engine that the accuracy gate rejected too.

    Raises:
        DeviceError, ModelError: the engine does not fit (see `accepted_engine`), or the GPU failed.
    """
    engine = engine or find_engine(bundle)
    if engine is None:
        return open_graphs(bundle, seed=seed, fresh_noise=fresh_noise, threads=threads)
    sidecar = accepted_engine(bundle, engine, even_if_rejected=even_if_rejected)
    if sidecar.runtime not in CPU_RUNTIMES:
        return _open_on_gpu(bundle, sidecar, seed, fresh_noise)
    engines = load_engine(bundle, sidecar, threads=threads)
    return _on_host(bundle, engine, *engines, seed=seed, fresh_noise=fresh_noise)


def open_graphs(
    bundle: Bundle, *, seed: int = 0, fresh_noise: bool = False, threads: int | None = None
) -> Inspector:
    """An inspector that runs the bundle's own graphs in FP32 on the CPU, to judge others by."""
    denoiser = OnnxEngine(bundle.path / DENOISER, threads=threads)
    segmenter = OnnxEngine(bundle.path / SEGMENTER, threads=threads)
    return _on_host(bundle, None, denoiser, segmenter, seed=seed, fresh_noise=fresh_noise)


def _on_host(
    bundle: Bundle,
    engine: str | None,
    denoiser: Engine,
    segmenter: Engine,
    *,
    seed: int,
    fresh_noise: bool,
) -> HostInspector:
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar, seed)
    return HostInspector(
        ops,
        denoiser,
        segmenter,
        _threshold(bundle, engine),
        fresh_noise=fresh_noise,
        ignore=bundle.ignore,
    )


def _open_on_gpu(bundle: Bundle, sidecar: Sidecar, seed: int, fresh_noise: bool) -> FusedInspector:
    keep = keep_mask(bundle.model, bundle.ignore)
    folder = bundle.path / ENGINES / sidecar.name
    device = Device()
    with closed_on_error(device):
        denoiser, segmenter = (
            TensorRtEngine(
                sidecar.runtime,
                folder / sidecar.files[graph].name,
                sidecar.precision,
                version_compatible=sidecar.options.version_compatible,
            )
            for graph in (DENOISER, SEGMENTER)
        )
        ops = CudaOps(
            device,
            bundle.model,
            bundle.manifest.alpha_bar,
            seed,
            element=denoiser.element,
            keep=keep,
            cubins=folder / KERNEL_FOLDER,
        )
        return FusedInspector(
            device,
            ops,
            denoiser,
            segmenter,
            _threshold(bundle, sidecar.name),
            fresh_noise=fresh_noise,
            ignore=bundle.ignore,
        )


def _threshold(bundle: Bundle, engine: str | None) -> float:
    """The calibrated threshold of the image score, or the middle of its range."""
    thresholds, _ = thresholds_for(bundle, engine)
    return thresholds.image_threshold if thresholds else 0.5
