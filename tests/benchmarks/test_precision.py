"""The study of precision against size and speed, and its table."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_networks import make_network_bundle, write_marked_data

from benchmarks import ahead_of_time, precision
from dad_edge.deploy.build import Target
from dad_edge.errors import DadEdgeError
from dad_edge.gate.images import data_images

CPU = Target(runtime="onnxruntime")


def test_every_engine_has_its_row_and_what_fails_says_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    monkeypatch.setattr(precision, "targets", lambda: iter([(CPU, "fp16"), (CPU, "int8")]))
    images = data_images(write_marked_data(bundle, tmp_path / "data"))
    graphs, half, failed = precision.run_study(bundle, images, 0.1)
    assert graphs["engine"] == "FP32 graphs"
    assert half["engine"].endswith("-fp16")
    assert half["passed"]
    assert 0 <= half["auroc_drop_points"] <= 0.1
    assert half["frames_per_second"] > 0
    assert 50 < half["peak_memory_mib"] < 1000
    assert half["bundle_mib"] > half["engine_mib"]
    assert "no activation ranges" in failed["error"]
    lines = precision.markdown([graphs, half, failed]).splitlines()
    assert len(lines) == 5
    assert lines[-1] == "| onnxruntime int8 |" + " – |" * 8


def test_a_runtime_that_is_not_here_is_left_out_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def only_one(runtime: str, capabilities: tuple[str, ...] = ()) -> Target:
        if runtime != "onnxruntime":
            raise DadEdgeError(f"{runtime} is not installed.", "-")
        return CPU

    monkeypatch.setattr(precision, "find_target", only_one)
    assert [name for _, name in precision.targets()] == ["fp32", "fp16", "int8"]
    assert "tensorrt-rtx: left out, tensorrt-rtx is not installed." in capsys.readouterr().err


def test_ahead_of_time_both_kinds_of_profiles_are_compared() -> None:
    sets = ahead_of_time.profile_sets()
    assert sets["one"] == ((1, 1, 8),)
    assert [most for _, _, most in sets["each batch"]] == [1, 2, 4, 8]
    rows = [{"size": "nano", "plan_mib": 1.5}, {"size": "edge", "error": "no"}]
    assert ahead_of_time.markdown(rows).splitlines()[2:] == [
        "| nano | – | – | – | – | 1.5 | – | – |",
        "| edge |" + " failed |" * 7,
    ]
