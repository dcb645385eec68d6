"""What plans of the demo networks move, from the real builder: no change may slow them unnoticed.

The bounds are relative to the graph, so that they hold for other sizes of the same networks. Edge
is built with the study alone, `python -m benchmarks.engine_traffic`.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from benchmarks.engine_traffic import FORMS, markdown, plan_traffic
from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, open_bundle
from dad_edge.deploy.traffic import Traffic
from dad_edge.graphs.cost import LayerCost, layer_costs
from dad_edge.graphs.quantize import load_graph
from dad_edge.runtime.engines import rows_of

pytestmark = [
    pytest.mark.tensorrt,
    pytest.mark.skipif(
        importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
    ),
]
HALF_BYTES = 2
FUSED_HEAD = 16
"""Channels of an attention head from which the builder fuses it."""


def built(network: str, form: str, folder: Path) -> tuple[Traffic, list[LayerCost]]:
    """What a plan moves for one frame, and the layers of the graph that weights belong to."""
    bundle = open_bundle(PACKAGED)
    assert bundle.calibration is not None
    rows = rows_of(bundle.model, network)
    graph = FORMS[form](load_graph(PACKAGED / network), bundle.calibration.ranges[network])
    weighted = [layer for layer in layer_costs(PACKAGED / network, rows) if layer.flop]
    return plan_traffic(graph, rows, "8.9", folder), weighted


def test_the_denoiser_in_half_precision(tmp_path: Path) -> None:
    """4.9 times the least before group normalization was split, with 54 % of it in FP32."""
    traffic, layers = built(DENOISER, "fp16", tmp_path)
    least = HALF_BYTES * sum(layer.activations for layer in layers)
    assert 1.5 * least < traffic.activation_bytes < 2.85 * least
    assert traffic.float_bytes < 0.18 * traffic.activation_bytes, "groups of few pixels alone"
    assert traffic.kernels < 3.3 * len(layers)
    denoiser = open_bundle(PACKAGED).model.denoiser
    heads = [mult * denoiser.base_channels // denoiser.heads for mult in denoiser.channel_mults]
    narrow = min(heads) < FUSED_HEAD
    softmaxes = sum(layer.op == "MatMul" for layer in layers) // 2
    assert traffic.unfused_attention <= (softmaxes if narrow else 0)


def test_the_denoiser_in_int8_moves_less_than_in_half_precision(tmp_path: Path) -> None:
    """With a weight scale for each channel it moves 1.2 times as much, the rest in FP32."""
    traffic, layers = built(DENOISER, "int8", tmp_path)
    least = HALF_BYTES * sum(layer.activations for layer in layers)
    assert traffic.activation_bytes < 2.65 * least
    assert traffic.float_bytes < 0.18 * traffic.activation_bytes, "groups of few pixels alone"
    assert traffic.kernels < 3.6 * len(layers)


@pytest.mark.parametrize(("form", "most"), [("fp16", 1.8), ("int8", 2.0)])
def test_the_segmenter(tmp_path: Path, form: str, most: float) -> None:
    """In INT8 it moved 2.7 times the least with a weight scale for each channel."""
    traffic, layers = built(SEGMENTER, form, tmp_path)
    least = HALF_BYTES * sum(layer.activations for layer in layers)
    assert least < traffic.activation_bytes < most * least
    assert traffic.kernels < 2.6 * len(layers)


def test_a_build_that_failed_is_a_row_of_the_table() -> None:
    row = {"size": "nano", "network": "denoiser", "form": "fp16", "capability": "8.9"}
    table = markdown([row | {"error": "no"}])
    assert table.splitlines()[-1] == "| nano | denoiser | fp16 | 8.9 |" + " failed |" * 5
