"""Which INT8 layers cost how much accuracy, and which of them to keep in float."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.runtime.engine_onnx import OnnxEngine
from dad_edge.runtime.inspector import HostInspector
from dad_edge.runtime.ops_numpy import NumpyOps

if TYPE_CHECKING:
    import onnx


def inspector_of(bundle: Bundle, graphs: Mapping[str, onnx.ModelProto]) -> HostInspector:
    """An inspector on ONNX Runtime with graphs that are not on disk.

    Args:
        bundle: a checked bundle.
        graphs: network file → graph that stands in its place.
    """
    denoiser, segmenter = (engine_of(graphs[name]) for name in (DENOISER, SEGMENTER))
    threshold = bundle.thresholds.image_threshold if bundle.thresholds else 0.5
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    return HostInspector(ops, denoiser, segmenter, threshold, ignore=bundle.ignore)


def engine_of(graph: onnx.ModelProto) -> OnnxEngine:
    """A graph in memory on ONNX Runtime."""
    import onnx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        onnx.save(graph, path)
        return OnnxEngine(path)
