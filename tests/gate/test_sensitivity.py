"""The ranking finds the one layer that INT8 ruins, and the search keeps few layers float."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_networks import make_network_bundle, sensitive_segmenter, write_images

from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.data.layouts import list_items
from dad_edge.deploy.calibrate import calibrate
from dad_edge.errors import ModelError
from dad_edge.gate import sensitivity
from dad_edge.gate.sensitivity import (
    LayerCost,
    as_layers,
    fewest_float_layers,
    frames_for,
    inspector_of,
    pick_frames,
    ranges_of,
    rank_layers,
)
from dad_edge.graphs.quantize import load_graph, to_int8
from dad_edge.image.preprocess import read_frame


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> list[np.ndarray]:
    folder = write_images(tmp_path_factory.mktemp("images") / "good", 4)
    return [read_frame(item.path) for item in list_items(folder, "train")]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("sensitive")
    made = make_network_bundle(folder / "bundle", sensitive_segmenter())
    items = list_items(write_images(folder / "good", 4), "train")
    thresholds, calibration = calibrate(made, items)
    return Bundle(made.path, made.manifest, thresholds, calibration)


def test_the_ranking_finds_the_layer_that_int8_ruins(
    bundle: Bundle, frames: list[np.ndarray]
) -> None:
    steps: list[tuple[int, int]] = []
    ranking = rank_layers(bundle, frames, lambda done, total: steps.append((done, total)))
    assert steps == [(n, 5) for n in range(1, 6)], "two of the denoiser, three of the segmenter"
    worst, second = ranking[:2]
    assert (worst.network, worst.layer) == (SEGMENTER, "w_sensitive")
    assert worst.score_error > 20 * second.score_error
    assert worst.mask_error > 20 * second.mask_error
    assert {(c.network, c.layer) for c in ranking} == {
        (DENOISER, "w_middle"),
        (DENOISER, "w_merge"),
        (SEGMENTER, "w_calm"),
        (SEGMENTER, "w_sensitive"),
        (SEGMENTER, "w_quiet"),
    }
    assert rank_layers(bundle, frames) == ranking, "the same again"


def test_the_cost_of_a_layer_is_that_of_the_graph_with_it_alone_in_int8(
    bundle: Bundle, frames: list[np.ndarray]
) -> None:
    """Answers of the FP32 denoiser are recorded once; they must meet the frames they belong to."""
    ranking = {cost.layer: cost for cost in rank_layers(bundle, frames)}
    graphs = {name: load_graph(bundle.path / name) for name in (DENOISER, SEGMENTER)}
    plain = inspector_of(bundle, graphs)
    ranges = ranges_of(bundle, SEGMENTER)
    graphs[SEGMENTER] = to_int8(graphs[SEGMENTER], ranges, ["w_calm", "w_sensitive"])
    quiet = inspector_of(bundle, graphs)
    errors = [abs(plain.inspect(f).score - quiet.inspect(f).score) for f in frames]
    assert ranking["w_quiet"].score_error == pytest.approx(np.mean(errors), rel=1e-6)


def test_without_ranges_there_is_no_ranking(tmp_path: Path, frames: list[np.ndarray]) -> None:
    with pytest.raises(ModelError, match="no activation ranges"):
        rank_layers(make_network_bundle(tmp_path / "bundle"), frames)


def _costs(count: int) -> list[LayerCost]:
    return [
        LayerCost(
            network=DENOISER if i % 2 else SEGMENTER,
            layer=f"layer{i}",
            score_error=1.0 / (i + 1),
            mask_error=0.0,
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("needed", [0, 1, 2, 3, 7, 12, 13])
def test_the_search_finds_the_smallest_number_that_passes(needed: int) -> None:
    ranking = _costs(13)
    asked: list[int] = []

    def passes(layers: dict[str, tuple[str, ...]]) -> bool:
        count = sum(map(len, layers.values()))
        asked.append(count)
        return count >= needed

    assert fewest_float_layers(ranking, passes) == as_layers(ranking[:needed])
    assert len(asked) == len(set(asked)) <= 9


def test_a_check_that_never_passes_ends_with_every_layer() -> None:
    assert fewest_float_layers(_costs(3), lambda layers: False) == {
        SEGMENTER: ("layer0", "layer2"),
        DENOISER: ("layer1",),
    }


def test_frames_are_spread_over_good_and_defective_parts() -> None:
    def frame(value: int) -> np.ndarray:
        return np.full((1, 1, 3), value, np.uint8)

    picked = pick_frames(((i % 10 == 9, frame(i)) for i in range(200)), 4)
    values = [int(f[0, 0, 0]) for f in picked]
    good, defective = [v for v in values if v % 10 != 9], [v for v in values if v % 10 == 9]
    assert 3 <= len(good) <= 4
    assert 3 <= len(defective) <= 4
    assert max(good) - min(good) > 100
    assert max(defective) - min(defective) > 100
    assert [int(f[0, 0, 0]) for f in pick_frames([(False, frame(7))], 4)] == [7]


def test_large_networks_are_ranked_on_fewer_frames(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert frames_for(bundle) == sensitivity.MOST_FRAMES
    monkeypatch.setattr(sensitivity, "BUDGET_GFLOP", 0.0)
    assert frames_for(bundle) == sensitivity.FEWEST_FRAMES
