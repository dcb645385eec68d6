"""Where the time of the networks goes, layer by layer, as the runtime's own profiler says."""

from __future__ import annotations

import importlib
import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np

from dad_edge.bench.measure import rounded
from dad_edge.bench.result import LayerGroup, LayerProfile, SlowLayer
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.graphs.cost import LayerCost, layer_costs
from dad_edge.graphs.openvino import for_openvino
from dad_edge.machine.environment import usable_cores
from dad_edge.runtime.cpu.engine_onnx import session_options
from dad_edge.runtime.cpu.engine_openvino import cpu_settings, shared_core
from dad_edge.runtime.engines import rows_of

Profiler = Literal["ONNX Runtime", "OpenVINO"]
PROFILERS: tuple[Profiler, ...] = ("ONNX Runtime", "OpenVINO")
RUNS = 15
SLOWEST = 6
LAYOUT = "layout changes"
"""Reordering that the runtime adds between layers; it is no part of the network."""
_NEAR = 4
"""So many nodes lie between a profiled one, such as a fused activation, and its layer at most."""


@dataclass(frozen=True, slots=True)
class Timed:
    """One step of a runtime."""

    name: str
    op: str
    ms: float
    """Median over the runs."""


@dataclass(slots=True)
class _Group:
    """The layers of one group, added up."""

    ms: float = 0.0
    gflop: float = 0.0
    least_ms: float = 0.0
    """The sum of every layer's own limit; 0 where a peak is not known."""

    def row(self, name: str, whole_ms: float) -> LayerGroup:
        """The group beside the time of all layers."""
        return LayerGroup(
            group=name,
            ms=rounded(self.ms),
            share=rounded(self.ms / whole_ms),
            gflop=rounded(self.gflop),
            gflop_per_s=rounded(self.gflop * 1e3 / self.ms) if self.ms else None,
            share_of_roof=rounded(self.least_ms / self.ms) if self.ms and self.least_ms else None,
        )


def profile_bundle(
    bundle: Bundle, profiler: Profiler, gflop_per_s: float | None, gbyte_per_s: float | None
) -> LayerProfile:
    """Time by layer group and the slowest layers of one frame in FP32.

    Args:
        bundle: the bundle whose graphs are run.
        profiler: the runtime.
        gflop_per_s: peak of a matrix product.
        gbyte_per_s: peak of a copy.

    Raises:
        MissingDependency: the runtime is not installed.
        ValueError: the graphs hide their shapes.
    """
    groups: dict[str, _Group] = {}
    steps: list[tuple[Timed, LayerCost | None, str]] = []
    for graph, source in ((DENOISER, "x_t"), (SEGMENTER, "pair")):
        rows = rows_of(bundle.model, graph)
        costs = layer_costs(bundle.path / graph, rows)
        for cost in costs:
            group = groups.setdefault(cost.group, _Group())
            group.gflop += cost.flop / 1e9
            group.least_ms += _least_ms(cost, gflop_per_s, gbyte_per_s)
        timed = _profile(profiler, bundle.path / graph, source, rows, bundle.model.image_size)
        for step, layer, name in assign(timed, costs):
            groups.setdefault(name, _Group()).ms += step.ms
            steps.append((step, layer, name))
    whole = sum(group.ms for group in groups.values())
    steps.sort(key=lambda entry: -entry[0].ms)
    return LayerProfile(
        engine=profiler,
        ms=rounded(whole),
        groups=tuple(
            group.row(name, whole)
            for name, group in sorted(groups.items(), key=lambda item: -item[1].ms)
            if group.ms or group.gflop
        ),
        slowest=tuple(_slow(*entry, whole) for entry in steps[:SLOWEST]),
    )


def _slow(step: Timed, layer: LayerCost | None, group: str, whole_ms: float) -> SlowLayer:
    return SlowLayer(
        name=layer.name if layer else step.name,
        op=layer.op if layer else step.op,
        group=group,
        shape=layer.shape if layer else (),
        ms=rounded(step.ms),
        share=rounded(step.ms / whole_ms),
        gflop_per_s=rounded(layer.flop / 1e6 / step.ms) if layer and step.ms else None,
    )


def assign(
    timed: Sequence[Timed], costs: Sequence[LayerCost]
) -> Iterator[tuple[Timed, LayerCost | None, str]]:
    """Which layer of the graph, and which group, a step of a runtime belongs to.

    Runtimes name a step after a node or a tensor of the graph, with marks of their own around it.
    A step without such a name belongs to the group of the one before.

    Yields:
        The step, the layer that computes in it, or None, and its group.
    """
    place = {}
    for index, layer in enumerate(costs):
        for name in (layer.name, *layer.outputs):
            place[name] = index
    group = costs[0].group if costs else "other"
    for step in timed:
        if step.op in ("Reorder", "ReorderInput", "ReorderOutput") or "_token_" in step.name:
            yield step, None, LAYOUT
            continue
        node = next((place[name] for name in _names(step.name) if name in place), None)
        if node is None:
            yield step, None, group
            continue
        group = costs[node].group
        computing = step.op in ("Conv", "Convolution", "MatMul", "FusedMatMul", "Gemm")
        near = costs[max(node - _NEAR, 0) : node + 1] if computing else ()
        yield step, next((layer for layer in reversed(near) if layer.flop), None), group


def _names(name: str) -> Iterator[str]:
    """Names that a step may have in the graph, the likeliest first."""
    first = name.split("/")[0]
    yield from (name, first, first.removesuffix("_nchwc"))


def _least_ms(layer: LayerCost, gflop_per_s: float | None, gbyte_per_s: float | None) -> float:
    """The roof of one layer, as a time; 0 where a peak is not known."""
    if gflop_per_s is None or gbyte_per_s is None:
        return 0.0
    moved = 4 * (layer.weights + layer.activations) / 1e9
    return max(layer.flop / 1e9 / gflop_per_s, moved / gbyte_per_s) * 1e3


def _profile(profiler: Profiler, path: Path, source: str, rows: int, side: int) -> list[Timed]:
    channels = {"x_t": 3, "pair": 6}[source]
    value = np.random.default_rng(0).random((rows, channels, side, side), dtype=np.float32)
    if profiler == "OpenVINO":
        return _profile_openvino(path, source, value)
    return _profile_onnx(path, source, value)


def _profile_onnx(path: Path, source: str, value: Any) -> list[Timed]:
    ort: Any = importlib.import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(usable_cores())
        options.enable_profiling = True
        options.profile_file_prefix = f"{folder}/profile"
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS + 1):
            session.run(None, {source: value})
        events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    times_ms: dict[str, list[float]] = {}
    ops = {}
    for event in events:
        name = event["name"]
        if event.get("cat") == "Node" and name.endswith("_kernel_time"):
            name = name.removesuffix("_kernel_time")
            times_ms.setdefault(name, []).append(event["dur"] / 1e3)
            ops[name] = event["args"].get("op_name", "")
    # The first run also allocates.
    return [Timed(name, ops[name], median(ms[1:])) for name, ms in times_ms.items()]


def _profile_openvino(path: Path, source: str, value: Any) -> list[Timed]:
    import onnx

    core = shared_core()
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder) / path.name
        onnx.save(for_openvino(onnx.load(path)), graph)
        model = core.read_model(graph)
    model.reshape(list(value.shape))
    settings = cpu_settings(usable_cores()) | {"PERF_COUNT": True}
    request = core.compile_model(model, "CPU", settings).create_infer_request()
    times_ms: dict[str, list[float]] = {}
    ops = {}
    for run in range(RUNS + 1):
        request.infer({source: value})
        for step in request.get_profiling_info() if run else ():
            if step.status == step.Status.EXECUTED:
                times_ms.setdefault(step.node_name, []).append(step.real_time.total_seconds() * 1e3)
                ops[step.node_name] = step.node_type
    return [Timed(name, ops[name], median(ms)) for name, ms in times_ms.items()]
