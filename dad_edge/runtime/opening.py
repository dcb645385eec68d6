"""Opens what was chosen of a bundle: engines on their runtime, as an inspector."""

from __future__ import annotations

from pathlib import Path

from dad_edge.bundle import DENOISER, ENGINES, SEGMENTER, Bundle
from dad_edge.config import ModelConfig, Precision, RuntimeName
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.engines import (
    CPU_RUNTIMES,
    EngineChoice,
    rows_of,
    with_thresholds,
)
from dad_edge.runtime.gpu.driver import Device, closed_on_error
from dad_edge.runtime.gpu.engine_tensorrt import TensorRtEngine
from dad_edge.runtime.gpu.inspector import FusedInspector, keep_mask
from dad_edge.runtime.gpu.ops import CudaOps
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import KERNEL_FOLDER, Sidecar


def open_choice(
    choice: EngineChoice,
    *,
    seed: int = 0,
    fresh_noise: bool = False,
    threads: int | None = None,
    pictures: bool = True,
    stage_times: bool = True,
) -> Inspector:
    """An inspector with the engine, thresholds and scene of a choice; see `open_inspector`."""
    if choice.sidecar is not None and choice.sidecar.runtime not in CPU_RUNTIMES:
        # The scene is looked for in the picture that the networks see.
        inspector: Inspector = _open_on_gpu(
            choice,
            choice.sidecar,
            seed,
            fresh_noise=fresh_noise,
            pictures=pictures or choice.scene is not None,
            stage_times=stage_times,
        )
    else:
        inspector = _open_on_cpu(choice, seed, fresh_noise, threads)
    inspector.scene = choice.scene
    return inspector


def _open_on_cpu(
    choice: EngineChoice, seed: int, fresh_noise: bool, threads: int | None
) -> HostInspector:
    bundle = choice.bundle
    denoiser, segmenter = _cpu_engines(bundle, choice.sidecar, threads)
    return HostInspector(
        NumpyOps(bundle.model, bundle.manifest.alpha_bar, seed),
        denoiser,
        segmenter,
        choice.image_threshold,
        fresh_noise=fresh_noise,
        ignore=bundle.ignore,
    )


def open_graphs(bundle: Bundle, *, seed: int = 0, threads: int | None = None) -> Inspector:
    """An inspector that runs the bundle's own graphs in FP32 on the CPU, to judge others by."""
    return open_choice(with_thresholds(bundle, None), seed=seed, threads=threads)


def open_graph(
    runtime: RuntimeName,
    path: Path,
    model: ModelConfig,
    *,
    precision: Precision = "fp32",
    threads: int | None = None,
) -> Engine:
    """One network on a CPU runtime, ready for one frame at a time.

    Args:
        runtime: one of `CPU_RUNTIMES`.
        path: an ONNX graph whose file name begins as the bundle's does.
        model: the bundle's model settings.
        precision: precision of the graph.
        threads: threads that compute; all usable cores if None.
    """
    if runtime == "openvino":
        return OpenvinoEngine(path, precision, threads, rows_of(model, path.name))
    return OnnxEngine(path, precision, threads)


def _cpu_engines(
    bundle: Bundle, sidecar: Sidecar | None, threads: int | None
) -> tuple[Engine, Engine]:
    """Denoiser and segmenter of an engine on a CPU runtime, or of the bundle itself."""
    if sidecar is None:
        graphs = bundle.path / DENOISER, bundle.path / SEGMENTER
        return OnnxEngine(graphs[0], threads=threads), OnnxEngine(graphs[1], threads=threads)
    folder = bundle.path / ENGINES / sidecar.name
    denoiser, segmenter = (
        open_graph(
            sidecar.runtime,
            folder / sidecar.files[graph].name,
            bundle.model,
            precision=sidecar.precision,
            threads=threads,
        )
        for graph in (DENOISER, SEGMENTER)
    )
    return denoiser, segmenter


def _open_on_gpu(
    choice: EngineChoice, sidecar: Sidecar, seed: int, **options: bool
) -> FusedInspector:
    """The fused runtime; the options are those of `FusedInspector`."""
    bundle = choice.bundle
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
            choice.image_threshold,
            ignore=bundle.ignore,
            **options,
        )
