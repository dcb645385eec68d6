"""The wheel, installed into a clean environment away from the clone."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PIP = ("-m", "pip", "--disable-pip-version-check", "--quiet")


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command without this process's Python settings."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "DAD_"))}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    built = run(sys.executable, *PIP, "wheel", "--no-deps", "--wheel-dir", folder, ROOT, cwd=folder)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("dad_edge-*.whl"))


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clean")
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    installed = run(python, *PIP, "install", wheel, cwd=folder)
    assert installed.returncode == 0, installed.stderr
    return python


def test_it_carries_kernels_bundle_and_type_marker(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "py.typed",
        "report/page.css",
        "kernels/inject.cu",
        "kernels/restore.cu",
        "kernels/pool.cu",
        "kernels/philox.cuh",
        "pretrained/bundle.json",
        "pretrained/denoiser.onnx",
        "pretrained/segmenter.onnx",
        "pretrained/thresholds.json",
    ):
        assert f"dad_edge/{name}" in names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"dad_edge"}


@pytest.mark.timeout(600)
def test_the_light_core_inspects_and_names_what_is_missing(python: Path, tmp_path: Path) -> None:
    command = python.with_name("dad-edge")
    doctor = run(command, "doctor", "--json", cwd=tmp_path)
    assert doctor.returncode == 0, doctor.stderr
    assert "torch" not in run(python, "-m", "pip", "list", cwd=tmp_path).stdout

    source = ("--source", "demo://?parts=4", "--out", "out", "--json")
    stream = run(command, "stream", *source, cwd=tmp_path)
    assert stream.returncode == 0, stream.stderr
    frames = [json.loads(line) for line in stream.stdout.splitlines()]
    assert sum(frame["record"] == "frame" for frame in frames) == 4

    build = run(command, "build", "--precision", "fp16", "--json", cwd=tmp_path)
    assert build.returncode == 0, build.stderr
    assert (tmp_path / "bundle" / "engines").is_dir()

    bench = run(command, "bench", "--seconds", "0.5", "--json", cwd=tmp_path)
    assert bench.returncode == 0, bench.stderr
    assert json.loads(bench.stdout)["rows"][0]["fps"] > 0

    data = ("--data", "somewhere")
    for arguments in (("train", *data), ("export", "--checkpoint", "run")):
        refused = run(command, *arguments, cwd=tmp_path)
        assert refused.returncode == 5
        assert "pip install 'dad-edge[train]'" in refused.stderr
