"""Real engines ahead of time: `nano` and `edge` through TensorRT-RTX's own parser and builder.

What is too slow for every run, all sizes × fusions × precisions with the time and memory that they
take, is in `benchmarks/ahead_of_time.py`.
"""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from dad_edge.bundle import (
    DENOISER,
    ENGINES,
    PACKAGED,
    SEGMENTER,
    Bundle,
    Calibration,
    open_bundle,
    write_calibration,
    write_manifest,
)
from dad_edge.config import RECIPES, Fusion, Precision
from dad_edge.deploy.build import FRAMES, build, find_target
from dad_edge.graphs.cost import layer_costs
from dad_edge.graphs.quantize import inner_convolutions, load_graph
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.runtime.engines import rows_of
from dad_edge.runtime.sidecar import Sidecar

CAPABILITIES = ("8.6", "8.9", "12.0")

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
    ),
]


def _copy(path: Path, folder: Path, fusion: Fusion) -> Bundle:
    """A bundle for a fusion, with ranges for INT8; the graphs of both fusions are built alike."""
    shutil.copytree(path, folder)
    bundle = open_bundle(folder)
    lambdas = (200, 400) if fusion == "norm_guided" else (100, 200)
    model = replace(bundle.model, fusion=fusion, lambdas=lambdas)
    table = alpha_bar_table(model.schedule)
    write_manifest(
        folder,
        model=model,
        class_name="untrained",
        alpha_bar=tuple(float(table[step]) for step in lambdas),
        made_with={"dad-edge": "test"},
    )
    ranges = {
        name: {node.input[0]: (-4.0, 4.0) for node in inner_convolutions(load_graph(folder / name))}
        for name in (DENOISER, SEGMENTER)
    }
    write_calibration(open_bundle(folder), Calibration(method="min-max", ranges=ranges))
    return open_bundle(folder)


def _build(bundle: Bundle, precision: Precision) -> Sidecar:
    sidecar = build(bundle, precision, find_target(capabilities=CAPABILITIES))
    folder = bundle.path / ENGINES / sidecar.name
    assert sidecar.device == "sm86-sm89-sm120"
    assert sidecar.profiles == ((1, FRAMES[0], FRAMES[-1]),)
    for graph in (DENOISER, SEGMENTER):
        size = sidecar.files[graph].bytes
        assert (folder / sidecar.files[graph].name).stat().st_size == size
        least = (bundle.path / graph).stat().st_size / 4
        assert size > least, "at least a byte for every weight"
    assert "Engine generation completed" in (folder / "build.log").read_text()
    return sidecar


@pytest.mark.parametrize(
    ("fusion", "precision"), [("average", "fp16"), ("average", "int8"), ("norm_guided", "int8")]
)
def test_nano(tmp_path: Path, fusion: Fusion, precision: Precision) -> None:
    bundle = _copy(PACKAGED, tmp_path / "bundle", fusion)
    assert rows_of(bundle.model, SEGMENTER) == (1 if fusion == "norm_guided" else 2)
    _build(bundle, precision)


@pytest.mark.timeout(900)  # the export alone takes half a minute of a free core
def test_edge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxscript", reason="the exporter is not installed")
    # Extreme frames take longer than both plans, and random weights would say nothing.
    monkeypatch.setattr("dad_edge.deploy.build.check_fp16_range", lambda bundle: None)
    from dad_edge.bench.untrained import untrained_bundle

    made = untrained_bundle(RECIPES["edge"].model)
    bundle = _copy(made.path, tmp_path / "bundle", "average")
    sidecar = _build(bundle, "int8")
    for graph, most in ((DENOISER, 2.5), (SEGMENTER, 2.0)):
        layers = layer_costs(bundle.path / graph, rows_of(bundle.model, graph))
        least = 2 * sum(layer.activations for layer in layers)  # in half precision
        moved = sidecar.files[graph].traffic_bytes
        assert moved is not None
        assert moved < most * least, "see tests/benchmarks/test_engine_traffic.py"
