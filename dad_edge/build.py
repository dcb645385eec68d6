"""Engines of a bundle for a runtime, a device and a precision."""

from __future__ import annotations

import importlib.util
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dad_edge.bundle import CALIBRATION, DENOISER, ENGINES, SEGMENTER, Bundle, new_folder, sha256_of
from dad_edge.config import Precision, RuntimeName
from dad_edge.errors import DadEdgeError, UsageError
from dad_edge.plan import build_plan, check_stop
from dad_edge.quantize import typed_graph
from dad_edge.runtime.engines import (
    CPU_RUNTIMES,
    SIDECAR_FORMAT,
    EngineFile,
    Gate,
    Sidecar,
    cpu_runtime_version,
    write_sidecar,
)
from dad_edge.runtime.openvino_graph import float_behind_concat
from dad_edge.runtime.tensorrt_api import load_tensorrt, local_capability
from dad_edge.signals import StopRequest

FRAMES = (1, 1, 8)
"""Smallest, best and largest number of frames in a batch of a TensorRT engine."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """What an engine is built for."""

    runtime: RuntimeName
    capabilities: tuple[str, ...] = ()
    """Compute capabilities of the GPUs, such as `8.6`; empty for a CPU."""
    workspace_mib: int | None = None
    """Limit of the TensorRT builder's scratch memory in MiB."""

    @property
    def device(self) -> str:
        """Name of the device in the engine's name."""
        return "-".join(f"sm{c.replace('.', '')}" for c in self.capabilities) or "cpu"


def find_target(
    runtime: RuntimeName | None = None,
    capabilities: tuple[str, ...] = (),
    workspace_mib: int | None = None,
) -> Target:
    """What to build for, from what the user said and what is here.

    Args:
        runtime: None for the best one: TensorRT-RTX where compute capabilities are named,
            TensorRT where it is installed beside a GPU, else ONNX Runtime on the CPU.
        capabilities: GPUs to build for ahead of time, of TensorRT-RTX only.
        workspace_mib: limit of the TensorRT builder's scratch memory in MiB.

    Raises:
        UsageError: the arguments do not fit together.
        DeviceError, MissingDependency: TensorRT was asked for and cannot be used here.
    """
    if runtime is None:
        runtime = "tensorrt-rtx" if capabilities else _best_runtime()
    if capabilities and runtime != "tensorrt-rtx":
        raise UsageError(
            f"--compute-capability is for building ahead of time, which {runtime} cannot do.",
            "add '--runtime tensorrt-rtx', or leave --compute-capability out",
        )
    if runtime in CPU_RUNTIMES:
        if workspace_mib is not None:
            raise UsageError(
                f"--workspace-mib limits the TensorRT builder; {CPU_RUNTIMES[runtime]} has none.",
                "leave it out, or choose '--runtime tensorrt'",
            )
        cpu_runtime_version(runtime)
        return Target(runtime=runtime)
    if workspace_mib is not None and workspace_mib < 1:
        raise UsageError(
            f"--workspace-mib is {workspace_mib}, below 1.", "give it in MiB, such as 1024"
        )
    load_tensorrt(runtime)
    return Target(
        runtime=runtime,
        capabilities=tuple(dict.fromkeys(capabilities)) or (local_capability(),),
        workspace_mib=workspace_mib,
    )


def _best_runtime() -> RuntimeName:
    if importlib.util.find_spec("tensorrt") is None:
        return "onnxruntime"
    try:
        local_capability()
    except DadEdgeError:
        return "onnxruntime"
    return "tensorrt"


def build(
    bundle: Bundle,
    precision: Precision,
    target: Target,
    on_phase: Callable[[str], None] = lambda phase: None,
) -> Sidecar:
    """Build both networks; the engine appears in the bundle when it is complete, or not at all.

    Args:
        bundle: a checked bundle in a folder that may be written.
        precision: of the engine.
        target: what it is built for, from `find_target`.
        on_phase: told what is going on.

    Raises:
        ModelError: INT8 lacks its calibration, or the runtime rejects a graph.
        DeviceError: the builder failed.
        StorageError: the engine cannot be written.
        Interrupted: a signal asked to stop.
    """
    started = time.perf_counter()
    version = _runtime_version(target.runtime)
    name = f"{target.device}-{target.runtime}-{version}-{precision}"
    with StopRequest() as stop, new_folder(bundle.path / ENGINES / name, replace=True) as draft:
        files = {}
        for graph in (DENOISER, SEGMENTER):
            on_phase(f"{graph}: typed graph")
            content = _engine_of(bundle, graph, precision, target, stop, on_phase)
            suffix = ".onnx" if target.runtime in CPU_RUNTIMES else ".plan"
            path = draft / Path(graph).with_suffix(suffix).name
            path.write_bytes(content)
            files[graph] = EngineFile(
                name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size
            )
            check_stop(stop)
        digest = bundle.manifest.sha256.get(CALIBRATION)
        sidecar = Sidecar(
            format=SIDECAR_FORMAT,
            runtime=target.runtime,
            runtime_version=version,
            device=target.device,
            precision=precision,
            onnx_sha256=bundle.onnx_digests,
            calibration_sha256=digest if precision == "int8" else None,
            files=files,
            frames=(0, 0, 0) if target.runtime in CPU_RUNTIMES else FRAMES,
            build_seconds=round(time.perf_counter() - started, 3),
            peak_memory_mib=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
            gate=Gate(),
        )
        write_sidecar(draft, sidecar)
    return sidecar


def _runtime_version(runtime: RuntimeName) -> str:
    if runtime in CPU_RUNTIMES:
        return cpu_runtime_version(runtime)
    return str(load_tensorrt(runtime).__version__)


def _engine_of(
    bundle: Bundle,
    graph: str,
    precision: Precision,
    target: Target,
    stop: StopRequest,
    on_phase: Callable[[str], None],
) -> bytes:
    if target.runtime in CPU_RUNTIMES:
        # These runtimes compute FP16 in FP32 on CPUs: what INT8 leaves alone stays FP32.
        model = typed_graph(bundle, graph, precision, rest="fp32")
        if target.runtime == "openvino":
            model = float_behind_concat(model)
        return bytes(model.SerializeToString(deterministic=True))
    model = typed_graph(bundle, graph, precision, rest="fp16")
    levels = len(bundle.model.lambdas)
    if graph == SEGMENTER and bundle.model.fusion == "norm_guided":
        levels = 1
    smallest, best, largest = (levels * frames for frames in FRAMES)
    return build_plan(
        target.runtime,
        model,
        rows=(smallest, best, largest),
        capabilities=target.capabilities,
        workspace_mib=target.workspace_mib,
        stop=stop,
        on_phase=lambda phase: on_phase(f"{graph}: {phase}"),
    )


def describe(sidecar: Sidecar) -> str:
    """The outcome for a person."""
    sizes = ", ".join(f"{f.name} {f.bytes / 2**20:.1f} MiB" for f in sidecar.files.values())
    return (
        f"engine: {sidecar.name} ({sizes}) built in {sidecar.build_seconds:.1f} s, "
        f"peak memory {sidecar.peak_memory_mib:.0f} MiB"
    )
