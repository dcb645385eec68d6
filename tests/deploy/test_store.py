"""Packed bundles in a store, with the one in memory that fsspec brings."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import pytest
from tiny import make_tiny_bundle
from typer.testing import CliRunner

from dad_edge.cli.main import app
from dad_edge.deploy.store import fetched, stored
from dad_edge.errors import DataError, StorageError

fsspec: Any = pytest.importorskip("fsspec", reason="fsspec is not installed (extra 'registry')")


@pytest.fixture
def place() -> str:
    return f"memory://{uuid.uuid4().hex}/bolts.zip"


def invoke(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_a_bundle_goes_to_a_store_and_comes_back(tmp_path: Path, place: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    assert invoke("bundle", "pack", "--bundle", bundle.path, "--out", place).exit_code == 0
    assert invoke("bundle", "unpack", place, "--out", tmp_path / "back").exit_code == 0
    assert invoke("bundle", "diff", bundle.path, tmp_path / "back").exit_code == 0
    again = invoke("bundle", "pack", "--bundle", bundle.path, "--out", place)
    assert isinstance(again.exception, StorageError)
    assert "exists already" in again.exception.message


def test_what_does_not_come_whole_is_refused(tmp_path: Path, place: str) -> None:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    invoke("bundle", "pack", "--bundle", bundle.path, "--out", place)
    with fsspec.open(place, "rb") as file:
        whole = file.read()
    with fsspec.open(place, "wb") as file:
        file.write(whole[: len(whole) // 2])
    found = invoke("bundle", "unpack", place, "--out", tmp_path / "back")
    assert isinstance(found.exception, DataError)
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("place", "said"), [("memory://none/x.zip", "cannot be fetched"), ("nothing://x", "reached")]
)
def test_what_cannot_be_fetched_is_told_with_what_to_do(place: str, said: str) -> None:
    with pytest.raises(DataError, match=said) as caught, fetched(place, "the store"):
        pass
    assert caught.value.message.startswith("the store ")
    assert caught.value.next_step


def test_a_store_that_takes_nothing_and_a_password_that_is_not_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError("Access Denied.")

    memory = fsspec.implementations.memory.MemoryFileSystem
    monkeypatch.setattr(memory, "put_file", refuse)
    with (
        pytest.raises(StorageError, match="the store cannot be written: Access Denied") as caught,
        stored("memory://a/b.zip", "the store") as file,
    ):
        file.write_bytes(b"x")
    assert "may write" in caught.value.next_step
    assert not file.parent.exists(), "nothing stays on this machine"
    secret = "memory://user:hunter2@none/x.zip"
    found = invoke("bundle", "unpack", secret, "--out", tmp_path / "back")
    assert isinstance(found.exception, DataError)
    assert "hunter2" not in found.exception.message


def test_a_path_is_a_path(tmp_path: Path) -> None:
    with stored(str(tmp_path / "a.zip"), "") as file, fetched(str(tmp_path / "a.zip"), "") as same:
        assert file == same == tmp_path / "a.zip"
