from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import make_tiny_bundle

from dad_edge.bundle import open_bundle
from dad_edge.errors import StorageError, UsageError
from dad_edge.files import sole_writer
from dad_edge.triton.protocol import digest_of
from dad_edge.triton.repository import config_of, export_version


def test_each_export_is_the_next_version_with_a_copy_of_the_bundle(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    (bundle.path / "reports").mkdir()
    (bundle.path / "reports" / "page.html").write_text("large")
    for number in (1, 2):
        folder = export_version(bundle, tmp_path / "models", "bolts")
        assert folder == tmp_path / "models" / "bolts" / str(number)
    copy = open_bundle(folder / "bundle")
    assert (digest_of(copy) == digest_of(bundle)).all()
    assert copy.thresholds == bundle.thresholds
    assert not (folder / "bundle" / "reports").exists()
    assert "TritonPythonModel" in (folder / "model.py").read_text()
    model = tmp_path / "models" / "bolts"
    assert sorted(path.name for path in model.iterdir()) == ["1", "2", "config.pbtxt"]
    assert (model / "config.pbtxt").read_text() == config_of("bolts")
    (model / "7").mkdir()
    assert export_version(bundle, tmp_path / "models", "bolts").name == "8"


def test_an_export_that_fails_leaves_no_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    export_version(bundle, tmp_path / "models", "bolts")
    (bundle.path / "segmenter.onnx").unlink()
    (bundle.path / "segmenter.onnx").symlink_to("gone")
    with pytest.raises(StorageError):
        export_version(bundle, tmp_path / "models", "bolts")
    model = tmp_path / "models" / "bolts"
    assert sorted(path.name for path in model.iterdir()) == ["1", "config.pbtxt"]


def test_two_exports_at_once_do_not_take_one_number(tmp_path: Path) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with (
        sole_writer(tmp_path / "models" / "bolts"),
        pytest.raises(StorageError, match="another dad-edge writes"),
    ):
        export_version(bundle, tmp_path / "models", "bolts")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "-x"])
def test_a_name_that_is_none_for_a_model_is_refused(tmp_path: Path, name: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    with pytest.raises(UsageError, match="is no name for a model"):
        export_version(bundle, tmp_path / "models", name)
    assert not (tmp_path / "models").exists()


def test_the_command(tmp_path: Path) -> None:
    make_tiny_bundle(tmp_path / "bundle")
    command = ["triton", "export", "--repository", "models", "--name", "bolts", "--json"]
    done = subprocess.run(
        [sys.executable, "-m", "dad_edge", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {"model": "bolts", "version": 1}
    assert "models/bolts/1: version 1 of bolts" in done.stderr
