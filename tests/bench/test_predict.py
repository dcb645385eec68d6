from __future__ import annotations

import io
import json
from typing import Any, get_args

import pytest
from bench_rows import make_row
from rich.console import Console

from dad_edge.bench.case import recipe_model
from dad_edge.bench.cost import model_cost, total
from dad_edge.bench.devices import DEVICES
from dad_edge.bench.names import DeviceName
from dad_edge.bench.predict import ASSUMED_SHARES, SIZE_COSTS, predict, prediction_table
from dad_edge.bundle import PACKAGED, Bundle, open_bundle
from dad_edge.cli import main as cli


def test_the_command_offers_every_device_that_has_figures() -> None:
    assert set(DEVICES) == set(get_args(DeviceName))


@pytest.mark.parametrize("name", DEVICES)
def test_dense_figures_of_a_device_fit_together_and_name_their_source(name: DeviceName) -> None:
    device = DEVICES[name]
    assert device.source.startswith("NVIDIA, ")
    assert "sparse" in device.source or "dense" in device.source or "sparsity" in device.source
    ratio = device.int8_top_per_s / device.fp16_tflop_per_s
    # A GeForce card accumulates FP16 in FP32 at half its rate.
    assert ratio == pytest.approx(4 if name == "rtx-4090" else 2, rel=0.04)


@pytest.mark.parametrize("size", ["nano", "edge", "paper"])
def test_the_costs_of_the_sizes_are_those_of_their_networks(size: Any) -> None:
    counted = total(model_cost(recipe_model(size)))
    assert counted is not None
    listed = SIZE_COSTS[size]
    assert listed.gflop == pytest.approx(counted.gflop, rel=1e-4)
    assert (listed.weights, listed.activations) == (counted.weights, counted.activations)
    assert listed.layers == counted.layers


def test_a_prediction_stays_below_the_roof_and_says_what_it_is() -> None:
    found = predict(open_bundle(PACKAGED), "l4")
    assert found.to_json()["predicted"] is True
    assert [row.what for row in found.rows[::2]] == ["this bundle, nano", "edge", "paper"]
    for row in found.rows:
        low, high = row.predicted_fps
        assert low < high < row.roof_fps * ASSUMED_SHARES[1]
    paper = next(r for r in found.rows if (r.what, r.precision) == ("paper", "fp16"))
    assert paper.roof_fps == pytest.approx(121e3 / 1278.4, rel=1e-3)
    assert paper.limited_by == "arithmetic"


def test_the_json_of_a_prediction_has_the_keys_it_always_had() -> None:
    found = json.loads(json.dumps(predict(open_bundle(PACKAGED), "thor").to_json()))
    assert list(found) == [
        "schema_version",
        "study",
        "predicted",
        "device",
        "source",
        "peak",
        "shares_of_roof",
        "assumed_layer_s",
        "rows",
    ]
    assert found["peak"] == {"fp16_tflop_per_s": 258.5, "int8_top_per_s": 517, "gbyte_per_s": 273}
    assert list(found["rows"][0]) == [
        "what",
        "precision",
        "gflop",
        "gbyte",
        "layers",
        "roof_fps",
        "limited_by",
        "predicted_fps",
    ]


def test_what_was_reached_here_is_a_third_guess() -> None:
    row = make_row(engine="OpenVINO", share_of_roof=0.4)
    found = predict(open_bundle(PACKAGED), "h100", row)
    assert found.to_json()["shares_of_roof"][-1] == {
        "share": 0.4,
        "from": "reached by OpenVINO fp32 on cpu here",
    }
    assert all(len(row.predicted_fps) == 3 for row in found.rows)


@pytest.mark.parametrize("name", DEVICES)
def test_the_table_says_predicted_and_fits(name: DeviceName) -> None:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(prediction_table(predict(open_bundle(PACKAGED), name)))
    text = console.export_text()
    assert text.startswith("PREDICTED frames/s, not measured")
    assert max(map(len, text.splitlines())) <= 100
    assert "Source: NVIDIA" in text


def test_the_command_predicts_and_measures_the_bundle_alone(
    tiny_bundle: Bundle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ["--bundle", str(tiny_bundle.path), "--seconds", "0.1", "--json"]
    monkeypatch.setattr("sys.argv", ["dad-edge", "bench", "--predict", "thor", *own])
    cli.main()
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    assert found["study"] == "predict"
    assert found["shares_of_roof"][-1]["from"].startswith("reached by ")
    assert "not measured" in shown.err


def test_a_prediction_is_no_study(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["bench", "--predict", "thor", "--study", "all"]
    monkeypatch.setattr("sys.argv", ["dad-edge", *arguments])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 2
    assert "--predict estimates another device" in capsys.readouterr().err
