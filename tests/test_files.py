from __future__ import annotations

import json
import multiprocessing
import os
import signal
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from dad_edge.errors import StorageError
from dad_edge.files import encode_json, is_file_name, sole_writer

PATIENCE_S = 120.0


def hold(folder: Path, held: Event) -> None:
    with sole_writer(folder):
        held.set()
        signal.pause()


def test_one_process_writes_into_a_folder_and_its_end_frees_it(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=hold, args=(tmp_path / "out", held))
    other.start()
    assert held.wait(PATIENCE_S)
    with (
        pytest.raises(StorageError, match="another dad-edge writes into"),
        sole_writer(tmp_path / "out"),
    ):
        pass
    assert other.pid is not None
    os.kill(other.pid, signal.SIGKILL)  # as a power cut would: nothing is cleaned up
    other.join(PATIENCE_S)
    with sole_writer(tmp_path / "out"):
        assert list((tmp_path / "out").iterdir()) == []


def test_a_file_system_without_locks_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("dad_edge.files.fcntl.flock", refuse)
    with sole_writer(tmp_path / "out"):
        assert (tmp_path / "out").is_dir()


def test_names_that_are_not_utf8_become_json_that_everybody_reads() -> None:
    line = encode_json({"na\udcfcme": ["ü\udcff", {"deep": "\udce4"}], "other": "\ud800"})
    decoded = json.loads(line.decode("utf-8"))
    assert decoded == {r"na\xfcme": [r"ü\xff", {"deep": r"\xe4"}], "other": "\ud800"}
    assert line.endswith(b"}\n")


@pytest.mark.parametrize(
    ("name", "fits"),
    [("a.onnx", True), ("a\udcfc", True), ("\ud800", False), ("ü" * 128, False), ("a/b", False)],
)
def test_names_of_files(name: str, fits: bool) -> None:
    assert is_file_name(name) == fits
