"""One typed ONNX graph → one serialized TensorRT plan, for every TensorRT from 10.3 to 11.4.

Networks are strongly typed: the graph alone says what runs in which precision. TensorRT-RTX builds
ahead of time for the compute capabilities it is told, with no GPU and no driver. No timing cache
is set; TensorRT-RTX does not allow one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dad_edge.config import RuntimeName
from dad_edge.errors import DeviceError, Interrupted, ModelError, UsageError
from dad_edge.runtime.tensorrt_api import load_tensorrt
from dad_edge.signals import StopRequest

if TYPE_CHECKING:
    import onnx


def build_plan(
    runtime: RuntimeName,
    model: onnx.ModelProto,
    *,
    rows: tuple[int, int, int],
    capabilities: tuple[str, ...],
    workspace_mib: int | None,
    stop: StopRequest,
    on_phase: Callable[[str], None],
) -> bytes:
    """Build the plan of one graph.

    Args:
        runtime: `tensorrt` or `tensorrt-rtx`.
        model: typed graph with one input (N,C,S,S), N free.
        rows: smallest, best and largest N of the optimisation profile.
        capabilities: compute capabilities such as `8.6`; of TensorRT-RTX only.
        workspace_mib: limit of the builder's scratch memory in MiB.
        stop: checked at every step of the builder.
        on_phase: told the name of every phase.

    Raises:
        MissingDependency: the runtime is not installed.
        ModelError: the parser rejects the graph, with its own reason.
        UsageError: a compute capability is unknown to TensorRT-RTX.
        DeviceError: the builder failed, with its own reason.
        Interrupted: a signal asked to stop.
    """
    trt = load_tensorrt(runtime)
    logger = _logger(runtime)
    logger.problems.clear()
    builder = trt.Builder(logger)
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(model.SerializeToString()):
        errors = [parser.get_error(index) for index in range(parser.num_errors)]
        reasons = [
            f"{' '.join(e.desc().split())} (node '{e.node_name()}', {e.node_operator()})"
            for e in errors
        ]
        raise ModelError(
            f"{runtime} {trt.__version__} cannot read {model.graph.name}: {'; '.join(reasons)}.",
            "export the bundle again with this version of dad-edge, or use --runtime onnxruntime",
        )
    config = builder.create_builder_config()
    profile = builder.create_optimization_profile()
    source = network.get_input(0)
    sides = tuple(source.shape)[1:]
    profile.set_shape(source.name, *[(count, *sides) for count in rows])
    config.add_optimization_profile(profile)
    if workspace_mib is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, workspace_mib << 20)
    if runtime == "tensorrt-rtx":
        _set_capabilities(trt, config, capabilities)
    monitor = _monitor(trt, stop, on_phase)
    config.progress_monitor = monitor
    plan = builder.build_serialized_network(network, config)
    check_stop(stop)
    if plan is None:
        reason = logger.problems[-1] if logger.problems else "it gave no reason"
        raise DeviceError(
            f"{runtime} {trt.__version__} could not build {model.graph.name}: {reason}.",
            "if memory ran out, close other programs or lower --workspace-mib",
        )
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


def _set_capabilities(trt: Any, config: Any, capabilities: tuple[str, ...]) -> None:
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


@lru_cache(maxsize=2)
def _logger(runtime: RuntimeName) -> Any:
    """The one logger of a runtime; TensorRT keeps the first that it is given."""
    trt = load_tensorrt(runtime)

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        """Keeps the messages that explain a failure."""

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.problems: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                self.problems.append(" ".join(message.split()).rstrip("."))

    return Logger()


def _monitor(trt: Any, stop: StopRequest, on_phase: Callable[[str], None]) -> Any:
    class Monitor(trt.IProgressMonitor):
        """Passes phases on and cancels the build when a signal asked for it."""

        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            on_phase(name)

        def phase_finish(self, name: str) -> None:
            pass

        def step_complete(self, name: str, step: int) -> bool:
            return not stop.requested

    return Monitor()
