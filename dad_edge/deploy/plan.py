"""One typed ONNX graph → one serialized TensorRT plan, for every TensorRT from 10.3 to 11.4.

Networks are strongly typed: the graph alone says what runs in which precision. TensorRT-RTX builds
ahead of time for the compute capabilities it is told, with no GPU and no driver; it takes neither
a timing cache nor the options of `BuilderOptions` other than the workspace.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dad_edge.config import RuntimeName
from dad_edge.deploy.phases import BuildLog, Phases
from dad_edge.errors import DeviceError, Interrupted, ModelError, StorageError, UsageError
from dad_edge.files import write_whole
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import Progress
from dad_edge.runtime.gpu.tensorrt_api import load_tensorrt, tensorrt_logger
from dad_edge.runtime.sidecar import BuilderOptions


@dataclass(frozen=True, kw_only=True, slots=True)
class PlanJob:
    """What is to be built from a graph."""

    name: str
    """Name of the network, for messages."""
    runtime: RuntimeName
    """`tensorrt` or `tensorrt-rtx`."""
    profiles: tuple[tuple[int, int, int], ...]
    """Smallest, best and largest number of rows of every optimisation profile."""
    capabilities: tuple[str, ...] = ()
    """Compute capabilities such as `8.6`; of TensorRT-RTX only."""
    options: BuilderOptions = field(default_factory=BuilderOptions)
    timing_cache: str | None = None
    """File of kernel timings that builds on this device share; of TensorRT only."""


def build_plan(
    job: PlanJob, model: bytes, stop: StopRequest, progress: Progress, log: BuildLog
) -> bytes:
    """Build the plan of one graph.

    Args:
        job: what to build.
        model: typed ONNX graph with one input (N,C,S,S), N free.
        stop: checked at every step of the builder.
        progress: told of every step.
        log: gets the builder's messages.

    Raises:
        MissingDependency: the runtime is not installed.
        ModelError: the parser rejects the graph, with its own reason.
        UsageError: a compute capability is unknown to TensorRT-RTX.
        DeviceError: the builder failed, with its own reason.
        Interrupted: a signal asked to stop.
    """
    trt = load_tensorrt(job.runtime)
    logger = tensorrt_logger(job.runtime)
    logger.problems.clear()
    logger.listener = log
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [
            f"{' '.join(e.desc().split())} (node '{e.node_name()}', {e.node_operator()})"
            for e in errors
        ]
        raise ModelError(
            f"{job.runtime} {trt.__version__} cannot read {job.name}: {'; '.join(reasons)}.",
            "export the bundle again with this version of dad-edge, or use --runtime onnxruntime",
        )
    config = builder.create_builder_config()
    source = network.get_input(0)
    sides = tuple(source.shape)[1:]
    for rows in job.profiles:
        profile = builder.create_optimization_profile()
        profile.set_shape(source.name, *[(count, *sides) for count in rows])
        config.add_optimization_profile(profile)
    _set_options(trt, config, job.options)
    if job.runtime == "tensorrt-rtx":
        _set_rtx_options(trt, config, job.capabilities)
    elif job.timing_cache:
        _set_timing_cache(config, Path(job.timing_cache))
    monitor = _monitor(trt, stop, progress)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    check_stop(stop)
    if plan is None:
        reason = logger.problems[-1] if logger.problems else "it gave no reason"
        raise DeviceError(
            f"{job.runtime} {trt.__version__} could not build {job.name}: {reason}.",
            "if memory ran out, close other programs, lower --workspace-mib or give fewer --frames",
        )
    if job.timing_cache:
        _keep_timing_cache(config, Path(job.timing_cache))
    return bytes(plan)


def check_stop(stop: StopRequest) -> None:
    """Raise `Interrupted` if a signal asked to stop."""
    if stop.requested:
        raise Interrupted(
            "the build was interrupted; nothing was changed.",
            "run the command again",
            stop.signal_number,
        )


def supported_capabilities(trt: Any) -> list[str]:
    """Compute capabilities that TensorRT-RTX builds for, such as `8.6`."""
    names = [name[2:] for name in trt.ComputeCapability.__members__ if name.startswith("SM")]
    return [f"{name[:-1]}.{name[-1]}" for name in sorted(names, key=int)]


def _set_options(trt: Any, config: Any, options: BuilderOptions) -> None:
    # The builder then lists what every layer reads and writes, and a profiler can name it.
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    # What the graph keeps in FP32 is there for its precision; TF32 has no more of it than FP16.
    config.clear_flag(trt.BuilderFlag.TF32)
    if options.workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_mib << 20)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    if options.hardware_compatible:
        config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.AMPERE_PLUS
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)


def _set_timing_cache(config: Any, path: Path) -> None:
    """Start from the timings of earlier builds; ones of another device or version are ignored."""
    kept = b""
    with suppress(OSError):
        kept = path.read_bytes()
    cache = config.create_timing_cache(kept)
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _keep_timing_cache(config: Any, path: Path) -> None:
    cache = config.get_timing_cache()
    # A cache that cannot be written costs time, not the build.
    with suppress(StorageError):
        write_whole(path, bytes(cache.serialize()))


def _set_rtx_options(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
    # Else a plan may allocate while it runs, which cannot be captured in a CUDA graph.
    config.set_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)
    known = supported_capabilities(trt)
    for capability in capabilities:
        if capability not in known:
            raise UsageError(
                f"TensorRT-RTX {trt.__version__} does not build for compute capability "
                f"{capability}; it knows {', '.join(known)}.",
                "give one of these, or use --runtime tensorrt on the device itself",
            )
    config.num_compute_capabilities = len(capabilities)
    for index, capability in enumerate(capabilities):
        target = trt.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"]
        config.set_compute_capability(target, index)


def _monitor(trt: Any, stop: StopRequest, progress: Progress) -> Any:
    phases = Phases()

    class Monitor(trt.IProgressMonitor):
        """Passes progress on and cancels the build when a signal asked for it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            phases.start(name, parent, steps)
            progress(phases.share, 1.0, name)

        def phase_finish(self, name: str) -> None:
            phases.finish(name)
            progress(phases.share, 1.0, name)

        def step_complete(self, name: str, step: int) -> bool:
            phases.step(name, step)
            progress(phases.share, 1.0, name)
            return not stop.requested

    return Monitor()
