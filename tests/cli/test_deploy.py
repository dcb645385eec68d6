"""Calibrate, build and verify as a user runs them: exit codes, stdout for machines, stderr."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from small_networks import (
    make_network_bundle,
    sensitive_segmenter,
    write_images,
    write_marked_data,
)

from dad_edge import bundle as bundle_module
from dad_edge.bundle import Bundle
from dad_edge.cli import main as cli
from dad_edge.files import sole_writer
from dad_edge.gate.judgement import TOLERANCES, Tolerance


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
    data, here = write_marked_data(bundle, tmp_path / "data"), ("--bundle", bundle.path, "--json")
    assert _run(monkeypatch, "build", "--precision", "int8", *here) == 4
    assert "next: run 'dad-edge calibrate --data" in capsys.readouterr().err
    assert _run(monkeypatch, "calibrate", "--data", data, *here) == 0
    assert _json(capsys)["thresholds"]["smallest_supported_rate"] == pytest.approx(1 / 13)
    runtime = ("--runtime", "onnxruntime")
    judged = ("--precision", "int8", *runtime, "--data", data, *here)
    assert _run(monkeypatch, "build", *judged) == 0
    built = _json(capsys)
    assert built["gate"]["passed"] is True
    assert built["bundle"] == str(bundle.path)
    assert built["device"] == "cpu"
    assert _run(monkeypatch, "verify", "--data", data, *here) == 0
    (report,) = _json(capsys)["engines"]
    assert report["engine"] == f"cpu-onnxruntime-{onnxruntime.__version__}-int8"
    assert report["images"] == 20
    assert list(report)[:3] == ["engine", "backend", "reference"]
    assert report["outcome"] == "passed"


def test_what_cannot_be_judged_exits_with_one_and_the_command_that_judges_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An own product, as in the README: no data, then six parts, then enough good parts."""
    monkeypatch.setattr("dad_edge.gate.images.DEMO_PAIRS", 1)
    bundle = make_network_bundle(tmp_path / "bundle", sensitive_segmenter())
    build = ("build", "--precision", "fp16", "--runtime", "onnxruntime", "--bundle", bundle.path)
    assert _run(monkeypatch, *build, "--json") == 1
    output = capsys.readouterr()
    assert "passed" not in json.loads(output.out)["gate"]
    assert "the accuracy gate cannot judge cpu-onnxruntime" in output.err
    assert "next: run 'dad-edge verify --engine cpu-onnxruntime" in output.err
    assert "--data FOLDER' with 10 or more good parts" in output.err
    few = write_images(tmp_path / "few", 6, 0, 40)
    assert _run(monkeypatch, *build, "--data", few) == 1
    assert "10 different good images are needed, found 6" in capsys.readouterr().err
    enough = write_images(tmp_path / "enough", 12, 0, 40)
    verify = ("verify", "--bundle", bundle.path, "--data", enough, "--json")
    assert _run(monkeypatch, *verify) == 0
    (report,) = _json(capsys)["engines"]
    assert report["outcome"] == "passed"
    assert report["auroc_drop"] is not None
    assert report["pro_drop"] is not None


def test_two_calibrations_do_not_write_into_one_bundle(
    bundle: Bundle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    data = write_images(tmp_path / "good", 2)
    with sole_writer(bundle.path):
        assert _run(monkeypatch, "calibrate", "--data", data, "--bundle", bundle.path) == 7
    assert "another dad-edge writes into" in capsys.readouterr().err


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
