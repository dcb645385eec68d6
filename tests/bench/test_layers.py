from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
from small_networks import make_network_bundle

from dad_edge.bench.layers import LAYOUT, PROFILERS, Timed, assign, profile_bundle
from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER
from dad_edge.graphs.cost import LayerGroup, layer_costs


@pytest.mark.parametrize("profiler", PROFILERS)
def test_a_profile_accounts_for_all_arithmetic_and_time(tmp_path: Path, profiler: Any) -> None:
    bundle = make_network_bundle(tmp_path / "small")
    found = profile_bundle(bundle, profiler, 100.0, 10.0)
    rows = ((DENOISER, 2), (SEGMENTER, 2))
    gflop = sum(layer.flop for g, n in rows for layer in layer_costs(bundle.path / g, n)) / 1e9
    assert sum(entry.gflop for entry in found.groups) == pytest.approx(gflop, rel=1e-5)
    assert sum(entry.share for entry in found.groups) == pytest.approx(1, abs=1e-4)
    assert found.ms == pytest.approx(sum(entry.ms for entry in found.groups), rel=1e-4)
    slowest = [layer.ms for layer in found.slowest]
    assert slowest == sorted(slowest, reverse=True)


@pytest.mark.parametrize("profiler", PROFILERS)
def test_the_parts_of_a_real_network_are_told_apart(profiler: Any) -> None:
    from dad_edge.bundle import open_bundle

    found = profile_bundle(open_bundle(PACKAGED), profiler, 100.0, 10.0)
    parts = {entry.group: entry for entry in found.groups}
    for group in ("down", "up", "attention", "segmenter", "stem and head", LAYOUT):
        assert parts[group].ms > 0, group
    assert parts["up"].gflop > parts["attention"].gflop
    convolutions = [layer for layer in found.slowest if layer.op == "Conv"]
    assert convolutions
    assert all(layer.shape and layer.group in get_args(LayerGroup) for layer in convolutions)


def test_steps_are_found_by_the_names_that_runtimes_give_them() -> None:
    costs = layer_costs(PACKAGED / SEGMENTER, 2)
    first = next(cost for cost in costs if cost.op == "Conv")
    named = [
        Timed(f"{first.outputs[0]}_nchwc", "Conv", 1.0),
        Timed(f"{first.name}/WithoutBiases", "Convolution", 1.0),
        Timed("ReorderOutput_token_7", "ReorderOutput", 1.0),
        Timed("MVN_12", "MVN", 1.0),
    ]
    found = list(assign(named, costs))
    assert [layer for _, layer, _ in found] == [first, first, None, None]
    assert [group for _, _, group in found] == ["segmenter", "segmenter", LAYOUT, "segmenter"]


def test_a_fused_activation_is_the_convolution_before_it() -> None:
    costs = layer_costs(PACKAGED / SEGMENTER, 2)
    pairs = zip(costs, costs[1:], strict=False)
    convolution, activation = next(p for p in pairs if [c.op for c in p] == ["Conv", "Relu"])
    ((_, layer, _),) = assign([Timed(f"{activation.outputs[0]}_nchwc", "Conv", 1.0)], costs)
    assert layer == convolution
