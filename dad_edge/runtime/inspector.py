"""Opens an inspector for a bundle: the fastest that is known to be right here."""

from __future__ import annotations

from dad_edge.bundle import DENOISER, ENGINES, SEGMENTER, Bundle
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
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
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import KERNEL_FOLDER, Sidecar, thresholds_for


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
