"""`dad-edge evaluate` gives a run in PyTorch and its bundle on every runtime the same figures."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

pytest.importorskip("torch", reason="PyTorch is not installed (extra 'train')")

from exported_run import exported_run

from dad_edge.bundle import open_bundle
from dad_edge.cli.main import app
from dad_edge.config import RuntimeName
from dad_edge.deploy.build import Target, build
from dad_edge.runtime.engines import CPU_RUNTIMES
from tests.report.test_evaluate import write_part

SCORE = 1e-4
"""ARCHITECTURE's tolerance of FP32 engines."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("plates")
    for number in range(12):
        write_part(root, "good" if number % 2 else "chip", number)
    write_part(root, "good", 20, split="train")
    return root


def evaluated(data: Path, out: Path, *arguments: object) -> dict[str, Any]:
    words = ["evaluate", "--data", data, "--out", out, "--json", *arguments]
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("runtime", CPU_RUNTIMES)
def test_figures_and_scores_do_not_depend_on_the_runtime(
    runtime: RuntimeName, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip(runtime, reason=f"{CPU_RUNTIMES[runtime]} is not installed")
    exported, _, _ = exported_run("average")
    expected = evaluated(data, tmp_path / "pytorch", "--checkpoint", exported.parent / "run")
    shutil.copytree(exported, tmp_path / "bundle")
    name = build(open_bundle(tmp_path / "bundle"), "fp32", Target(runtime=runtime)).name
    options = ("--bundle", tmp_path / "bundle", "--engine", name)
    found = evaluated(data, tmp_path / "engine", *options)
    assert "PyTorch" in expected["context"]["backend"]
    assert CPU_RUNTIMES[runtime] in found["context"]["backend"]
    scores = {image["name"]: image["score"] for image in expected["scores"]}
    assert len(set(scores.values())) == len(scores) == 12
    for image in found["scores"]:
        assert image["score"] == pytest.approx(scores[image["name"]], abs=SCORE)
    assert found["summary"]["image_auroc"] == expected["summary"]["image_auroc"]
    assert found["summary"] == pytest.approx(expected["summary"], abs=1e-3)
