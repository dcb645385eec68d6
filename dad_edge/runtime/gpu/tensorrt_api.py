"""Which TensorRT is used: `tensorrt` 10.3 to 11.4 or `tensorrt_rtx`; their APIs are alike."""

from __future__ import annotations

from typing import Any

from dad_edge.config import RuntimeName
from dad_edge.errors import DeviceError, require
from dad_edge.machine.gpu import describe_nvidia

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
