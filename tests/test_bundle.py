from __future__ import annotations

import errno
import json
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from tiny import TINY

from dad_edge import bundle as bundles
from dad_edge.bundle import (
    CALIBRATION,
    DENOISER,
    ENVIRONMENT_VARIABLE,
    MANIFEST,
    PACKAGED,
    SEGMENTER,
    THRESHOLDS,
    Bundle,
    Calibration,
    find_bundle,
    open_bundle,
    write_calibration,
    write_thresholds,
)
from dad_edge.errors import ModelError, StorageError
from dad_edge.files import new_folder, write_json


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `None` removes one."""
    mapping = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in mapping.items() if v is not None}))


def names_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_a_bundle_survives_the_disk(tiny_bundle: Bundle, tmp_path: Path) -> None:
    moved = Path(shutil.copytree(tiny_bundle.path, tmp_path / "elsewhere"))
    again = open_bundle(moved)
    assert again.manifest == tiny_bundle.manifest
    assert again.thresholds == tiny_bundle.thresholds
    assert again.model == TINY
    assert again.calibration is None
    assert set(again.onnx_digests) == {DENOISER, SEGMENTER}
    assert str(tmp_path) not in (moved / MANIFEST).read_text()


def test_calibration_survives_and_is_protected(tiny_bundle: Bundle) -> None:
    calibration = Calibration(
        method="minmax",
        ranges={DENOISER: {"x_t": (-4.0, 4.5)}},
        images={"good/000.png": "0" * 64},
    )
    write_calibration(tiny_bundle, calibration)
    assert open_bundle(tiny_bundle.path).calibration == calibration
    edit(tiny_bundle.path / CALIBRATION, method="guess")
    with pytest.raises(ModelError, match=r"calibration\.json was changed"):
        open_bundle(tiny_bundle.path)


@pytest.mark.parametrize("name", [DENOISER, SEGMENTER])
def test_a_changed_file_is_refused(tiny_bundle: Bundle, name: str) -> None:
    content = bytearray((tiny_bundle.path / name).read_bytes())
    content[-1] ^= 1
    (tiny_bundle.path / name).write_bytes(content)
    with pytest.raises(ModelError, match=f"{name} was changed") as caught:
        open_bundle(tiny_bundle.path)
    assert "export it again" in caught.value.next_step


def test_a_missing_file_is_refused(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / SEGMENTER).unlink()
    with pytest.raises(ModelError, match=r"segmenter\.onnx is missing"):
        open_bundle(tiny_bundle.path)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe"])
def test_a_damaged_manifest_is_refused(tiny_bundle: Bundle, content: bytes) -> None:
    (tiny_bundle.path / MANIFEST).write_bytes(content)
    with pytest.raises(ModelError, match=r"bundle\.json (cannot be read|is not a JSON object)"):
        open_bundle(tiny_bundle.path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": 99}, "format 99, this version reads format 1"),
        ({"format": None}, "format None"),
        ({"colour": "red"}, "unknown key 'colour'"),
        ({"class_name": None}, "key 'class_name' is missing"),
        ({"alpha_bar": [0.9]}, "alpha_bar must be 2 numbers"),
        ({"alpha_bar": [0.9, 1.5]}, "alpha_bar must be 2 numbers between 0 and 1"),
        ({"sha256": {}}, r"sha256 lacks denoiser\.onnx"),
        ({"model": {"image_size": 33}}, r"bundle\.json\.model: image_size 33 must be a multiple"),
    ],
)
def test_a_wrong_manifest_is_refused(
    tiny_bundle: Bundle, changes: dict[str, Any], says: str
) -> None:
    edit(tiny_bundle.path / MANIFEST, **changes)
    with pytest.raises(ModelError, match=says):
        open_bundle(tiny_bundle.path)


def test_thresholds_may_be_edited(tiny_bundle: Bundle) -> None:
    edit(tiny_bundle.path / THRESHOLDS, image_threshold=0.75)
    thresholds = open_bundle(tiny_bundle.path).thresholds
    assert thresholds is not None
    assert thresholds.image_threshold == 0.75


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"image_threshold": "high"}, r"thresholds\.json\.image_threshold: expected float"),
        ({"image_threshold": float("nan")}, "not valid JSON"),
        ({"image_treshold": 0.5}, "unknown key 'image_treshold'"),
        ({"image_threshold": None}, "key 'image_threshold' is missing"),
    ],
)
def test_wrong_thresholds_are_refused(
    tiny_bundle: Bundle, changes: dict[str, Any], says: str
) -> None:
    edit(tiny_bundle.path / THRESHOLDS, **changes)
    with pytest.raises(ModelError, match=says):
        open_bundle(tiny_bundle.path)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is not a bundle: it has no bundle\.json") as caught:
        open_bundle(tmp_path)
    assert "dad-edge export" in caught.value.next_step


def test_the_order_of_looking_for_a_bundle(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path / "..")
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    assert find_bundle() == (PACKAGED, "the demo bundle in the package")
    monkeypatch.chdir(tiny_bundle.path.parent)
    assert find_bundle() == (Path("bundle"), "./bundle")
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "/from/environment")
    assert find_bundle() == (Path("/from/environment"), ENVIRONMENT_VARIABLE)
    assert find_bundle(Path("named")) == (Path("named"), "--bundle")


def test_a_new_folder_appears_complete(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    with new_folder(target) as draft:
        (draft / "a").write_text("a")
        assert not target.exists()
    assert names_in(target.parent) == ["bundle"]
    assert (target / "a").read_text() == "a"
    assert target.stat().st_mode & 0o777 == 0o755


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
