"""Builds engines of a bundle for a runtime, a device and a precision."""

from __future__ import annotations

import importlib.util
import os
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dad_edge.bundle import CALIBRATION, DENOISER, ENGINES, REPORTS, SEGMENTER, Bundle
from dad_edge.config import Precision, RuntimeName
from dad_edge.deploy.plan import PlanJob, check_stop
from dad_edge.deploy.process import LOG, build_in_process
from dad_edge.documents import to_mapping
from dad_edge.errors import DadEdgeError, DeviceError, Interrupted, ModelError, UsageError
from dad_edge.files import new_folder, sha256_of, write_whole
from dad_edge.graphs.engine import engine_graph, rest_of
from dad_edge.graphs.fp16_range import check_fp16_range
from dad_edge.graphs.polygraphy import for_polygraphy, reduce_command
from dad_edge.graphs.quantize import PAIR_LIMITS
from dad_edge.kernels.compile import (
    AMPERE_PLUS,
    check_compiler,
    supported_architectures,
    write_cubins,
)
from dad_edge.machine.environment import peak_memory_mib, shared_memory_mib, user_cache
from dad_edge.machine.gpu import describe_nvidia
from dad_edge.machine.signals import StopRequest
from dad_edge.made import remember
from dad_edge.progress import Progress, silent
from dad_edge.runtime.engines import CPU_RUNTIMES, cpu_runtime_version, rows_of
from dad_edge.runtime.gpu.tensorrt_api import load_tensorrt, local_capability
from dad_edge.runtime.proof import Proof, write_proof
from dad_edge.runtime.sidecar import (
    KERNEL_FOLDER,
    SIDECAR_FORMAT,
    BuilderOptions,
    EngineFile,
    Gate,
    LayerChoice,
    Sidecar,
    device_name,
    list_engines,
    read_sidecar,
    this_platform,
    write_sidecar,
)

FRAMES = (1, 2, 4, 8)
"""Numbers of frames in a batch that TensorRT engines are made for."""
WORKSPACE_SHARE = 8
"""Where CPU and GPU share memory, the builder's scratch memory is this fraction of it, 1 in N."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """The runtime and device that an engine is built for."""

    runtime: RuntimeName
    capabilities: tuple[str, ...] = ()
    """Compute capabilities of the GPUs, such as `8.6`; empty for a CPU."""
    frames: tuple[int, ...] = FRAMES
    """Numbers of frames in a batch, ascending; for TensorRT only."""
    options: BuilderOptions = field(default_factory=BuilderOptions)

    @property
    def device(self) -> str:
        """Name of the device in the engine's name."""
        return device_name(self.capabilities, self.options)

    @property
    def profiles(self) -> tuple[tuple[int, int, int], ...]:
        """Smallest, best and largest number of frames of every optimisation profile.

        TensorRT chooses its kernels for the best size of a profile, so every size gets a profile,
        which also takes the sizes below it down to the one before. TensorRT-RTX chooses on the
        device, for the sizes that it meets: more profiles only make its plans larger.
        """
        if self.runtime in CPU_RUNTIMES:
            return ()
        if self.runtime == "tensorrt-rtx":
            return ((1, self.frames[0], self.frames[-1]),)
        below = (0, *self.frames)
        return tuple((less + 1, n, n) for less, n in zip(below, self.frames, strict=False))


def find_target(
    runtime: RuntimeName | None = None,
    capabilities: tuple[str, ...] = (),
    frames: tuple[int, ...] = (),
    options: BuilderOptions | None = None,
    precision: Precision = "fp32",
) -> Target:
    """The target to build for, from the user's arguments and this machine.

    Args:
        runtime: None for the best one: TensorRT-RTX where compute capabilities are named,
            TensorRT where it is installed beside a GPU, else the fastest one on the CPU.
        capabilities: GPUs to build for ahead of time, of TensorRT-RTX only.
        frames: numbers of frames in a batch; `FRAMES` if none are named.
        options: of the TensorRT builder.
        precision: of the engine, where the runtime is to be chosen.

    Raises:
        UsageError: the arguments do not fit together.
        DeviceError, MissingDependency: the runtime was asked for and cannot be used here.
    """
    options = options or BuilderOptions()
    if runtime is None:
        runtime = "tensorrt-rtx" if capabilities else _best_runtime(precision)
    if capabilities and runtime != "tensorrt-rtx":
        raise UsageError(
            f"--compute-capability is for building ahead of time, which {runtime} cannot do.",
            "add '--runtime tensorrt-rtx', or leave --compute-capability out",
        )
    _check_options(runtime, frames, options)
    if runtime in CPU_RUNTIMES:
        cpu_runtime_version(runtime)
        return Target(runtime=runtime)
    load_tensorrt(runtime)
    if options.workspace_mib is None and (memory := shared_memory_mib()) is not None:
        options = replace(options, workspace_mib=memory // WORKSPACE_SHARE)
    return Target(
        runtime=runtime,
        capabilities=tuple(dict.fromkeys(capabilities)) or (local_capability(),),
        frames=tuple(sorted(set(frames))) or FRAMES,
        options=options,
    )


def _check_options(runtime: RuntimeName, frames: tuple[int, ...], options: BuilderOptions) -> None:
    """Raise a `UsageError` for options that the runtime does not have, or that are out of range."""
    given = {
        "--frames": bool(frames),
        "--workspace-mib": options.workspace_mib is not None,
        "--optimization-level": options.optimization_level is not None,
        "--hardware-compatible": options.hardware_compatible,
        "--version-compatible": options.version_compatible,
    }
    named = [name for name, is_given in given.items() if is_given]
    if runtime in CPU_RUNTIMES and named:
        raise UsageError(
            f"{named[0]} is for the TensorRT builder; {CPU_RUNTIMES[runtime]} has none.",
            "leave it out, or choose '--runtime tensorrt'",
        )
    unknown = [name for name in named if name not in ("--frames", "--workspace-mib")]
    if runtime == "tensorrt-rtx" and unknown:
        raise UsageError(
            f"TensorRT-RTX has no {unknown[0]}: it tunes its kernels on the device that runs them.",
            "leave it out; for other GPUs, name them with --compute-capability",
        )
    if options.workspace_mib is not None and options.workspace_mib < 1:
        raise UsageError(
            f"--workspace-mib is {options.workspace_mib}, below 1.", "give it in MiB, such as 1024"
        )
    if options.optimization_level not in (None, *range(6)):
        raise UsageError(
            f"--optimization-level is {options.optimization_level}, not 0 to 5.",
            "leave it out for TensorRT's default, 3",
        )
    if min(frames, default=1) < 1:
        raise UsageError(f"--frames is {min(frames)}, below 1.", "name batch sizes such as 1 and 4")
    if options.hardware_compatible and shared_memory_mib() is not None:
        raise UsageError(
            "TensorRT makes no hardware-compatible plans on a Jetson.",
            "leave --hardware-compatible out, and build on each kind of Jetson",
        )


def _best_runtime(precision: Precision) -> RuntimeName:
    if importlib.util.find_spec("tensorrt") is not None:
        try:
            local_capability()
            return "tensorrt"
        except DadEdgeError:
            pass
    # In FP32 both are equally fast and ONNX Runtime opens sooner. Its INT8 is slower than its FP32.
    has_openvino = importlib.util.find_spec("openvino") is not None
    return "openvino" if precision == "int8" and has_openvino else "onnxruntime"


def build(
    bundle: Bundle,
    precision: Precision,
    target: Target,
    progress: Progress = silent,
    layers: LayerChoice | None = None,
    proof: Proof | None = None,
) -> Sidecar:
    """Build both networks; the engine appears in the bundle when it is complete, or not at all.

    TensorRT plans are built one after the other, each in a process of its own. What the builder
    says is kept in `build.log`: in the engine's folder, or in `reports/` where it failed.

    Args:
        bundle: a checked bundle in a folder that may be written.
        precision: of the engine.
        target: what it is built for, from `find_target`.
        progress: told of every step.
        layers: which layers INT8 leaves alone; only the first and the last of each network if None.
        proof: by which the engine proves itself until the accuracy gate has judged it.

    Raises:
        ModelError: INT8 lacks its calibration, FP16 cannot hold an activation, or the runtime
            rejects a graph.
        DeviceError: the builder failed.
        StorageError: the engine cannot be written.
        Interrupted: a signal asked to stop.
    """
    started = time.perf_counter()
    layers = layers or LayerChoice()
    version = _runtime_version(target.runtime)
    if target.runtime not in CPU_RUNTIMES and precision != "fp32":
        progress(0.0, 1.0, "range of the activations")
        check_fp16_range(bundle)
    name = f"{target.device}-{target.runtime}-{version}-{precision}"
    files, peaks = {}, []
    with StopRequest() as stop, new_folder(bundle.path / ENGINES / name, replace=True) as draft:
        kernels = _kernels(target, draft / KERNEL_FOLDER, progress)
        for graph in (DENOISER, SEGMENTER):
            progress(0.0, 1.0, f"{graph}: typed graph")
            try:
                files[graph], peak = _build_network(
                    bundle, graph, precision, layers, target, version, draft, stop, progress
                )
            except DadEdgeError as error:
                if not isinstance(error, Interrupted):
                    _keep_failure(error, draft, bundle.path / REPORTS / name, graph, target)
                raise
            peaks.append(peak)
            check_stop(stop)
        digest = bundle.manifest.sha256.get(CALIBRATION)
        gpu, multiprocessors = _gpu_of(target)
        sidecar = Sidecar(
            format=SIDECAR_FORMAT,
            runtime=target.runtime,
            runtime_version=version,
            device=target.device,
            precision=precision,
            onnx_sha256=bundle.onnx_digests,
            calibration_sha256=digest if precision == "int8" else None,
            files=files,
            kernels=kernels,
            profiles=target.profiles,
            options=target.options,
            platform="" if target.runtime in CPU_RUNTIMES else this_platform(),
            gpu=gpu,
            multiprocessors=multiprocessors,
            layers=layers,
            pair_limit=PAIR_LIMITS[rest_of(target.runtime)] if precision == "int8" else None,
            build_seconds=round(time.perf_counter() - started, 3),
            peak_memory_mib=max(peaks),
            gate=Gate(),
            proof_sha256=write_proof(draft, proof) if proof else None,
        )
        write_sidecar(draft, sidecar)
        remember(path for path in draft.rglob("*") if path.is_file())
    return sidecar


def _kernels(target: Target, folder: Path, progress: Progress) -> dict[str, str]:
    """CUDA kernels for the target's GPUs, so that a device needs no compiler: file → sha256."""
    if target.runtime in CPU_RUNTIMES:
        return {}
    progress(0.0, 1.0, "CUDA kernels")
    if target.runtime == "tensorrt":  # which builds for this machine
        check_compiler()
    architectures = [f"sm_{capability.replace('.', '')}" for capability in target.capabilities]
    if target.options.hardware_compatible:
        known = supported_architectures()
        architectures = [arch for arch in AMPERE_PLUS if arch in known]
    return {path.name: sha256_of(path) for path in write_cubins(folder, architectures)}


def _gpu_of(target: Target) -> tuple[str, int]:
    """Name and multiprocessors of the GPU that a plan is tied to; an empty name if to none.

    TensorRT times its kernels on the GPU at hand. Hardware-compatible plans and those that are made
    ahead of time are for all GPUs of their compute capabilities.
    """
    gpus = describe_nvidia()["gpus"]
    if target.runtime != "tensorrt" or target.options.hardware_compatible or not gpus:
        return "", 0
    return gpus[0]["name"], gpus[0]["multiprocessors"]


def _runtime_version(runtime: RuntimeName) -> str:
    if runtime in CPU_RUNTIMES:
        return cpu_runtime_version(runtime)
    return str(load_tensorrt(runtime).__version__)


def _build_network(
    bundle: Bundle,
    graph: str,
    precision: Precision,
    layers: LayerChoice,
    target: Target,
    version: str,
    draft: Path,
    stop: StopRequest,
    progress: Progress,
) -> tuple[EngineFile, float]:
    """One network of the engine, and the largest memory in MiB of the process that built it."""
    keep = layers.float_layers.get(graph, ())
    model = engine_graph(bundle, graph, precision, target.runtime, keep)
    if target.runtime in CPU_RUNTIMES:
        path = draft / graph
        write_whole(path, model.SerializeToString(deterministic=True))
        file = EngineFile(name=path.name, sha256=sha256_of(path), bytes=path.stat().st_size)
        return file, peak_memory_mib()
    rows = rows_of(bundle.model, graph)
    job = PlanJob(
        name=graph,
        runtime=target.runtime,
        profiles=tuple(
            (low * rows, best * rows, most * rows) for low, best, most in target.profiles
        ),
        capabilities=target.capabilities if target.runtime == "tensorrt-rtx" else (),
        options=target.options,
        timing_cache=_timing_cache(target, version),
    )
    path = draft / Path(graph).with_suffix(".plan").name
    try:
        built = build_in_process(
            job,
            model.SerializeToString(deterministic=True),
            path,
            stop,
            lambda done, total, phase="": progress(done, total, f"{graph}: {phase}"),
        )
    except (ModelError, DeviceError):
        write_whole(draft / graph, for_polygraphy(model).SerializeToString(deterministic=True))
        raise
    file = EngineFile(
        name=path.name,
        sha256=built.sha256,
        bytes=built.bytes,
        traffic_bytes=built.traffic.all_bytes if built.traffic else None,
    )
    return file, built.peak_memory_mib


def _timing_cache(target: Target, version: str) -> str | None:
    """The file of kernel timings that all builds on this device share."""
    if target.runtime != "tensorrt":
        return None
    return str(user_cache() / "timings" / f"{target.runtime}-{version}-{target.device}")


def _keep_failure(
    error: DadEdgeError, draft: Path, folder: Path, graph: str, target: Target
) -> None:
    """What the builder said, the graph it failed on, and how to find the part that it refuses."""
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(draft / LOG, folder / LOG)
        os.replace(draft / graph, folder / graph)
        if isinstance(error, ModelError):
            command = reduce_command(target.runtime, folder / graph, target.capabilities)
            error.next_step += f"; what it refuses is found by: {command}"


def build_json(bundle: Bundle, sidecar: Sidecar) -> dict[str, Any]:
    """An engine as `build --json` prints it: its bundle, and all of its sidecar."""
    return {"bundle": str(bundle.path), **to_mapping(sidecar)}


def in_words(sidecar: Sidecar) -> str:
    """The outcome for a person."""
    sizes = ", ".join(f"{f.name} {f.bytes / 2**20:.1f} MiB" for f in sidecar.files.values())
    moved = sidecar.traffic_bytes
    return (
        f"engine: {sidecar.name} ({sizes}) built in {sidecar.build_seconds:.1f} s, "
        f"peak memory {sidecar.peak_memory_mib:.0f} MiB"
        + (f"; a frame moves {moved / 1e6:.0f} MB" if moved else "")
    )


def predicted_slower(bundle: Bundle, sidecar: Sidecar) -> str | None:
    """Why an INT8 engine is likely slower than the FP16 engine beside it, in words, or None.

    What limits these networks on a GPU is memory, and the builder tells what each layer moves.
    """
    half = sidecar.name.removesuffix(sidecar.precision) + "fp16"
    if sidecar.precision != "int8" or half not in list_engines(bundle):
        return None
    ours, theirs = sidecar.traffic_bytes, read_sidecar(bundle, half).traffic_bytes
    if ours is None or theirs is None or ours <= theirs:
        return None
    return (
        f"slower than FP16, most likely: a frame moves {ours / 1e6:.0f} MB through memory, and "
        f"{theirs / 1e6:.0f} MB in engine '{half}'; time both with 'dad-edge bench'"
    )
