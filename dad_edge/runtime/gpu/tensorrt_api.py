"""Which TensorRT is used: `tensorrt` 10.3 to 11.4 or `tensorrt_rtx`; their APIs are alike."""

from __future__ import annotations

import logging
from functools import lru_cache
from typing import Any, Protocol

from dad_edge.config import RuntimeName
from dad_edge.errors import DeviceError, require
from dad_edge.machine.gpu import describe_nvidia

_log = logging.getLogger(__name__)

MODULES: dict[RuntimeName, str] = {"tensorrt": "tensorrt", "tensorrt-rtx": "tensorrt_rtx"}
"""Runtime → Python module; the extra that installs it has the runtime's name."""


def load_tensorrt(runtime: RuntimeName) -> Any:
    """The module of a TensorRT runtime.

    Raises:
        MissingDependency: it is not installed.
    """
    return require(MODULES[runtime], runtime, f"build or run {runtime} engines")


def local_capability() -> str:
    """Compute capability of the first GPU, such as `8.7`.

    Raises:
        DeviceError: there is no GPU or no driver.
    """
    found = describe_nvidia()
    if not found["gpus"]:
        raise DeviceError(
            f"no NVIDIA GPU can be used here: {found['reason']}.",
            "run 'dad-edge doctor'; for RTX cards, build for them from here with "
            "'dad-edge build --runtime tensorrt-rtx --compute-capability 8.9'",
        )
    return str(found["gpus"][0]["compute_capability"])


class Listener(Protocol):
    """Is told what TensorRT says, such as the log of a build."""

    def problem(self, message: str) -> None:
        """Take in an error."""

    def note(self, message: str, *, warning: bool = False) -> None:
        """Take in what a person may want to read."""

    def detail(self, message: str) -> None:
        """Take in anything else."""


@lru_cache(maxsize=2)
def tensorrt_logger(runtime: RuntimeName) -> Any:
    """The one logger of a runtime; TensorRT keeps the first that it is given.

    Returns:
        `ILogger` with `problems`, the errors in one line each without their full stop, and
        `listener`, which may be set to a `Listener`.

    Raises:
        MissingDependency: the runtime is not installed.
    """
    trt = load_tensorrt(runtime)

    class Logger(trt.ILogger):  # type: ignore[name-defined]
        """Keeps the errors, which explain a failure, and hands all messages on.

        Warnings that nobody listens to go to the log of the program.
        """

        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.problems: list[str] = []
            self.listener: Listener | None = None

        def log(self, severity: Any, message: str) -> None:
            is_problem = severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR)
            if is_problem:
                self.problems.append(" ".join(message.split()).rstrip("."))
            if self.listener is None:
                if severity == trt.ILogger.WARNING:
                    _log.warning("%s: %s", runtime, " ".join(message.split()))
                return
            if is_problem:
                self.listener.problem(message)
            elif severity == trt.ILogger.VERBOSE:
                self.listener.detail(message)
            else:
                self.listener.note(message, warning=severity == trt.ILogger.WARNING)

    return Logger()
