from __future__ import annotations

import errno
import json
import multiprocessing
import os
import signal
import threading
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from dad_edge import bundle as bundles
from dad_edge.bundle import (
    Bundle,
    write_thresholds,
)
from dad_edge.errors import StorageError
from dad_edge.files import (
    encode_json,
    is_file_name,
    new_folder,
    sole_writer,
    write_json,
    write_whole,
)

PATIENCE_S = 120.0


def hold(folder: Path, held: Event) -> None:
    with sole_writer(folder):
        held.set()
        signal.pause()


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


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


def test_a_new_folder_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with new_folder(target) as draft:
        (draft / "a").write_text("a")
        assert not target.exists()
    assert names_in(target.parent) == ["bundle"]
    assert (target / "a").read_text() == "a"


@pytest.mark.parametrize(("mask", "file", "folder"), [(0o077, 0o600, 0o700), (0o002, 0o664, 0o775)])
def test_who_may_read_is_the_users_to_say(
    tmp_path: Path, mask: int, file: int, folder: int
) -> None:
    before = os.umask(mask)
    try:
        write_whole(tmp_path / "file", b"x")
        with new_folder(tmp_path / "folder"):
            pass
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == file
    assert (tmp_path / "folder").stat().st_mode & 0o777 == folder


@pytest.mark.parametrize("error", [RuntimeError("bad"), KeyboardInterrupt()])
def test_a_failed_new_folder_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    with pytest.raises(type(error)), new_folder(tmp_path / "bundle") as draft:  # noqa: PT012
        (draft / "a").write_text("a")
        raise error
    assert names_in(tmp_path) == []


def test_a_failed_replacement_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").write_text("old")
    full = pytest.raises(StorageError, match="the disk is full")
    with full, new_folder(tmp_path / "bundle", replace=True) as draft:
        (draft / "new").write_text("new")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert names_in(tmp_path) == ["bundle"]
    assert names_in(tmp_path / "bundle") == ["old"]


def test_a_taken_name_is_kept_or_replaced_as_asked(tmp_path: Path) -> None:
    (tmp_path / "bundle").mkdir()
    (tmp_path / "bundle" / "old").write_text("old")
    with pytest.raises(StorageError, match="exists already"), new_folder(tmp_path / "bundle"):
        pytest.fail("the name is taken")
    with new_folder(tmp_path / "bundle", replace=True) as draft:
        (draft / "new").write_text("new")
    assert names_in(tmp_path / "bundle") == ["new"]


def test_of_two_writers_one_wins_and_the_other_is_told(tmp_path: Path) -> None:
    both_started = threading.Barrier(2, timeout=10)
    lost: list[StorageError] = []

    def write(name: str) -> None:
        try:
            with new_folder(tmp_path / "bundle") as draft:
                (draft / name).write_text(name)
                both_started.wait()
        except StorageError as error:
            lost.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(lost) == 1
    assert "made it meanwhile" in lost[0].message
    assert names_in(tmp_path) == ["bundle"]
    assert len(names_in(tmp_path / "bundle")) == 1


def test_readers_of_json_never_see_half_of_it(tmp_path: Path) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"letters": ""})
    stop = threading.Event()

    def rewrite() -> None:
        for letter in "ab" * 40:
            write_json(path, {"letters": letter * 50_000})
        stop.set()

    writers = [threading.Thread(target=rewrite) for _ in range(2)]
    for writer in writers:
        writer.start()
    while not stop.is_set():
        assert len(set(json.loads(path.read_text())["letters"])) <= 1
    for writer in writers:
        writer.join()
    assert names_in(tmp_path) == ["value.json"]


@pytest.mark.parametrize("broken", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    path = tmp_path / "value.json"
    write_json(path, {"version": 1})

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(bundles.os, broken, full)
    with pytest.raises(StorageError, match=r"value\.json: the disk is full"):
        write_json(path, {"version": 2})
    assert json.loads(path.read_text()) == {"version": 1}
    assert names_in(tmp_path) == ["value.json"]


def test_json_has_no_infinite_numbers(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "value.json", {"score": float("inf")})
    assert names_in(tmp_path) == []


def test_a_read_only_file_system_is_named(tiny_bundle: Bundle, tmp_path: Path) -> None:
    assert tiny_bundle.thresholds is not None
    target = Path("/proc/dad-edge/bundle")
    with pytest.raises(StorageError, match=f"cannot write {target}"), new_folder(target):
        pytest.fail("/proc takes no folders")
    elsewhere = Bundle(target, tiny_bundle.manifest, None, None)
    with pytest.raises(StorageError, match="cannot write"):
        write_thresholds(elsewhere, tiny_bundle.thresholds)
