"""Which TensorRT is used: `tensorrt` 10.3 to 11.4 or `tensorrt_rtx`; their APIs are alike."""

from __future__ import annotations

from typing import Any

from dad_edge.config import RuntimeName
from dad_edge.errors import DeviceError, require

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
        MissingDependency: CUDA Python is not installed.
        DeviceError: there is no GPU or no driver.
    """
    core = require("cuda.core", "cuda", "ask the GPU for its compute capability")
    try:
        capability = core.Device().compute_capability
    except Exception as error:  # the loader's and the driver's exceptions share no public base
        raise DeviceError(
            f"no NVIDIA GPU can be used here: {str(error).rstrip('.')}.",
            "run 'dad-edge doctor'; for RTX cards, build for them from here with "
            "'dad-edge build --runtime tensorrt-rtx --compute-capability 8.9'",
        ) from error
    return f"{capability.major}.{capability.minor}"
