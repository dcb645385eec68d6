"""DiffusionAD on the line: one-step denoising-diffusion anomaly detection for inspection.

Example:
    >>> import dad_edge
    >>> with dad_edge.open_inspector("bundle") as inspector:
    ...     inspection = inspector.inspect(dad_edge.read_frame("part.png"))
    >>> inspection.verdict, inspection.score, inspection.score_map.shape
    ('good', 0.0123, (128, 128))

Names are imported when they are first used, so that importing the package stays fast and needs no
heavy package.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dad_edge.version import __version__

_HOMES = {
    "open_inspector": "dad_edge.runtime.inspector",
    "Inspector": "dad_edge.runtime.inspection",
    "Inspection": "dad_edge.runtime.seams",
    "read_frame": "dad_edge.image.preprocess",
    "DadEdgeError": "dad_edge.errors",
    "DataError": "dad_edge.errors",
    "DeviceError": "dad_edge.errors",
    "MissingDependency": "dad_edge.errors",
    "ModelError": "dad_edge.errors",
    "StorageError": "dad_edge.errors",
    "UsageError": "dad_edge.errors",
}
"""Public name → the module that defines it."""

__all__ = [
    "DadEdgeError",
    "DataError",
    "DeviceError",
    "Inspection",
    "Inspector",
    "MissingDependency",
    "ModelError",
    "StorageError",
    "UsageError",
    "__version__",
    "open_inspector",
    "read_frame",
]

if TYPE_CHECKING:
    from dad_edge.errors import (
        DadEdgeError,
        DataError,
        DeviceError,
        MissingDependency,
        ModelError,
        StorageError,
        UsageError,
    )
    from dad_edge.image.preprocess import read_frame
    from dad_edge.runtime.inspection import Inspector
    from dad_edge.runtime.inspector import open_inspector
    from dad_edge.runtime.seams import Inspection


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dad_edge' has no attribute '{name}'")
    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
