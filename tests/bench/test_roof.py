from __future__ import annotations

from dataclasses import replace

import pytest
from bench_rows import make_row
from tiny import TINY

from dad_edge.bench.case import recipe_model
from dad_edge.bench.cost import bundle_cost, model_cost, total
from dad_edge.bench.paper import DENOISER_GFLOP, SEGMENTER_GFLOP
from dad_edge.bench.result import Row
from dad_edge.bench.roof import Peaks, copy_gbytes, gemm_gflops, roof_of
from dad_edge.bench.scaling import fit_line, fit_sweep
from dad_edge.bundle import PACKAGED, Bundle, open_bundle


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_peak_is_a_rate_this_machine_can_reach(precision: str) -> None:
    assert 0 < gemm_gflops("cpu", precision, 0.05) < 100_000  # type: ignore[arg-type]


def test_the_copy_is_a_rate_this_machine_can_reach() -> None:
    assert 0 < copy_gbytes("cpu", 0.05) < 10_000


def test_the_better_of_two_peaks_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    rates = iter([10.0, 12.0])
    monkeypatch.setattr("dad_edge.bench.roof.gemm_gflops", lambda *given: next(rates))
    peaks = Peaks(0.01)
    assert peaks.gflop_per_s("cpu", "fp32") == 10
    peaks.measure_again()
    assert peaks.gflop_per_s("cpu", "fp32") == 12
    assert peaks.rates().gflop_per_s == {"cpu fp32": 12}


def test_a_device_that_is_not_here_has_no_peak() -> None:
    peaks = Peaks(0.01)
    assert peaks.gflop_per_s("cuda", "fp16") is None
    assert peaks.gbyte_per_s("cuda") is None
    peaks.measure_again()


def test_the_lower_of_the_two_limits_is_the_roof() -> None:
    roof = roof_of(gflop=2.0, gbyte=0.1, frames=4, gflop_per_s=100, gbyte_per_s=50)
    assert roof.arithmetic_fps == 200
    assert roof.memory_fps == 2000
    assert roof.fps == 200
    assert roof_of(2.0, 0.1, 4, 100, 1).fps == pytest.approx(40)


def test_pytorch_counts_what_the_graphs_say() -> None:
    bundle = open_bundle(PACKAGED)
    graphs, counted = bundle_cost(bundle), model_cost(bundle.model)
    for stage in ("denoise", "segment"):
        # PyTorch also counts the time embedding, which is a constant of the graph.
        assert counted[stage].gflop == pytest.approx(graphs[stage].gflop, rel=2e-4)
        assert counted[stage].activations == pytest.approx(graphs[stage].activations, rel=0.15)
        assert counted[stage].weights == pytest.approx(graphs[stage].weights, rel=0.2)


def test_the_papers_networks_cost_what_was_counted_on_the_authors_code() -> None:
    counted = model_cost(recipe_model("paper"))
    assert counted["denoise"].gflop == pytest.approx(2 * DENOISER_GFLOP, rel=1e-3)
    assert counted["segment"].gflop == pytest.approx(2 * SEGMENTER_GFLOP, rel=1e-3)


def test_a_batch_costs_as_many_frames_but_reads_its_weights_once(tiny_bundle: Bundle) -> None:
    one, four = total(bundle_cost(tiny_bundle)), total(bundle_cost(tiny_bundle, 4))
    assert one is not None
    assert four is not None
    assert four.gflop == pytest.approx(4 * one.gflop)
    assert four.activations == 4 * one.activations
    assert four.weights == one.weights
    assert one.gigabytes("fp16") == one.gigabytes("fp32") / 2


def test_guided_inference_segments_once() -> None:
    average = model_cost(TINY)
    guided = model_cost(replace(TINY, fusion="norm_guided"))
    assert guided["denoise"] == average["denoise"]
    assert guided["segment"].gflop == pytest.approx(average["segment"].gflop / 2)


def test_a_graph_of_unknown_cost_has_no_cost(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(*given: object) -> float:
        raise ValueError("shape")

    monkeypatch.setattr("dad_edge.bench.cost.layer_costs", hidden)
    assert total(bundle_cost(tiny_bundle)) is None


def row(ms: float, gflop: float, batch: int = 1, unstable: str | None = None) -> Row:
    return make_row(ms, gflop=gflop, batch=batch, unstable=unstable)


def test_a_line_is_found_with_its_slope_and_intercept() -> None:
    line = fit_line([1, 2, 4, 8], [12, 22, 42, 82])
    assert line.slope == pytest.approx(10)
    assert line.intercept == pytest.approx(2)
    assert line.r2 == pytest.approx(1)


def test_a_straight_sweep_needs_no_reason() -> None:
    found = fit_sweep("batch", [(n, row(10.0 * n + 2, 3.0, n)) for n in (1, 2, 4)], ["at batch 8"])
    assert found.straight
    assert found.reason is None
    assert found.missing == ("at batch 8",)


@pytest.mark.parametrize(
    ("places", "reason"),
    [
        ([(1, row(1, 1)), (2, row(2, 2))], "2 points do not tell a line from a curve"),
        (
            [(1, row(1, 1)), (2, row(9, 2, unstable="only 2 calls")), (3, row(3, 3))],
            "1 of 3 points are not steady",
        ),
        (
            [(n, row(n**3, n**3)) for n in (1.0, 2.0, 3.0, 4.0)],
            "the time follows the arithmetic, which is itself no straight line",
        ),
        (
            [(n, row(n**3, n)) for n in (1.0, 2.0, 3.0, 4.0)],
            "the rate changes from 1000 to 62 GFLOP/s along the way",
        ),
    ],
)
def test_a_sweep_that_is_no_line_says_why(places: list, reason: str) -> None:
    found = fit_sweep("image size", places, [])
    assert not found.straight
    assert str(found.reason).endswith(reason)
