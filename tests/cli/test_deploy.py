"""Calibrate, build and verify as a user runs them: exit codes, stdout for machines, stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from small_networks import make_network_bundle, write_images

from dad_edge import bundle as bundle_module
from dad_edge.bundle import Bundle
from dad_edge.cli import main as cli
from dad_edge.gate.verify import TOLERANCES, Tolerance


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return make_network_bundle(tmp_path / "bundle")


def _run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Exit code of `dad-edge` with these arguments."""
    monkeypatch.setattr(sys, "argv", ["dad-edge", *map(str, arguments)])
    try:
        cli.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def _json(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    result: dict[str, Any] = json.loads(capsys.readouterr().out)
    return result


def test_calibrate_build_and_verify_in_a_row(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("dad_edge.gate.images.DEMO_PAIRS", 1)
    data, here = write_images(tmp_path / "good", 4), ("--bundle", bundle.path, "--json")
    assert _run(monkeypatch, "build", "--precision", "int8", *here) == 4
    assert "next: run 'dad-edge calibrate --data" in capsys.readouterr().err
    assert _run(monkeypatch, "calibrate", "--data", data, *here) == 0
    assert _json(capsys)["thresholds"]["smallest_supported_rate"] == 0.2
    runtime = ("--runtime", "onnxruntime")
    assert _run(monkeypatch, "build", "--precision", "int8", *runtime, *here) == 0
    built = _json(capsys)
    assert built["gate"]["passed"] is True
    assert built["device"] == "cpu"
    assert _run(monkeypatch, "verify", "--data", data, *here) == 0
    (report,) = _json(capsys)["engines"]
    assert report["engine"] == f"cpu-onnxruntime-{onnxruntime.__version__}-int8"
    assert report["images"] == 4


def test_a_rejected_engine_exits_with_one_and_a_next_step(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setitem(TOLERANCES, "fp16", Tolerance(0.0, 0.0, 0.0, 0.0))
    monkeypatch.setattr("dad_edge.gate.images.DEMO_PAIRS", 1)
    arguments = ("build", "--precision", "fp16", "--runtime", "onnxruntime")
    assert _run(monkeypatch, *arguments, "--bundle", bundle.path) == 1
    error = capsys.readouterr().err
    assert "the accuracy gate rejects cpu-onnxruntime" in error
    assert "next: use 'dad-edge build --precision fp32'" in error


def test_the_packaged_bundle_is_copied_before_it_is_written(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(bundle_module, "PACKAGED", bundle.path)
    monkeypatch.delenv(bundle_module.ENVIRONMENT_VARIABLE, raising=False)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    data = write_images(tmp_path / "good", 2)
    assert _run(monkeypatch, "calibrate", "--data", data) == 0
    assert "copied here" in capsys.readouterr().err
    assert Path("bundle/calibration.json").is_file()
    assert not (bundle.path / "calibration.json").exists()
    assert _run(monkeypatch, "calibrate", "--data", data) == 0
    assert "bundle: bundle (./bundle)" in capsys.readouterr().err


def test_an_impossible_choice_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _run(monkeypatch, "build", "--precision", "fp4") == 2
