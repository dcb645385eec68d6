"""Packed bundles: the same bytes every time, and nothing but what was packed comes out."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_tiny_bundle

from dad_edge.bundle import Bundle, open_bundle
from dad_edge.deploy import pack as packing
from dad_edge.deploy.build import build, find_target
from dad_edge.deploy.pack import CONTENTS, INSIDE, REQUIREMENTS, pack, unpack
from dad_edge.errors import DataError, ModelError, StorageError
from dad_edge.runtime.inspector import open_inspector


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    bundle = make_tiny_bundle(tmp_path / "bundle")
    build(bundle, "fp16", find_target("onnxruntime"))
    for name in ("reports/page.html", "engines/run.log", ".hidden"):
        (bundle.path / name).parent.mkdir(exist_ok=True)
        (bundle.path / name).write_text("of this machine")
    return open_bundle(bundle.path)


@pytest.fixture
def packed(tmp_path: Path, bundle: Bundle) -> Path:
    pack(bundle, tmp_path / "packed.zip")
    return tmp_path / "packed.zip"


def test_the_same_bundle_gives_the_same_bytes(tmp_path: Path, bundle: Bundle, packed: Path) -> None:
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(bundle.path, copy)
    for path in copy.rglob("*"):
        os.utime(path, (1, 1))
    earlier = os.umask(0o077)
    try:
        pack(open_bundle(copy), tmp_path / "again.zip")
    finally:
        os.umask(earlier)
    assert (tmp_path / "again.zip").read_bytes() == packed.read_bytes()
    with pytest.raises(StorageError, match="exists already"):
        pack(bundle, packed)


def test_what_comes_out_inspects_as_what_went_in(
    tmp_path: Path, bundle: Bundle, packed: Path, bright_frame: np.ndarray
) -> None:
    found = unpack(packed, tmp_path / "line" / "bundle")
    assert found.path == tmp_path / "line" / "bundle"
    names = {p.relative_to(found.path).as_posix() for p in found.path.rglob("*") if p.is_file()}
    left_out = {"reports/page.html", "engines/run.log", ".hidden"}
    all_names = {
        p.relative_to(bundle.path).as_posix() for p in bundle.path.rglob("*") if p.is_file()
    }
    assert names == all_names - left_out
    with open_inspector(bundle) as one, open_inspector(found) as other:
        assert one.inspect(bright_frame).score == other.inspect(bright_frame).score
    with zipfile.ZipFile(packed) as archive:
        needed = archive.read(REQUIREMENTS).decode().splitlines()
        assert archive.namelist()[:2] == [CONTENTS, REQUIREMENTS]
    assert all(line.count("==") == 1 for line in needed)
    assert {"dad-edge", "numpy", "onnxruntime"} <= {line.partition("==")[0] for line in needed}
    assert "torch" not in {line.partition("==")[0] for line in needed}
    with pytest.raises(StorageError, match="exists already"):
        unpack(packed, found.path)


def test_a_program_that_is_not_installed_packs_too(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(name: str) -> None:
        raise packing.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(packing.metadata, "requires", absent)
    monkeypatch.setattr(packing.metadata, "version", absent)
    pack(bundle, tmp_path / "packed.zip")
    assert unpack(tmp_path / "packed.zip", tmp_path / "out").onnx_digests == bundle.onnx_digests


Change = Callable[[dict[str, bytes], list[zipfile.ZipInfo]], None]


def rewritten(packed: Path, target: Path, change: Change, **options: Any) -> Path:
    """The archive with other files or heads."""
    with zipfile.ZipFile(packed) as archive:
        heads = archive.infolist()
        files = {head.filename: archive.read(head) for head in heads}
    change(files, heads)
    with zipfile.ZipFile(target, "w", **options) as archive:
        for head in heads:
            if head.filename in files:
                archive.writestr(head, files[head.filename], options.get("compression"))
    return target


def listed(files: dict[str, bytes], name: str) -> None:
    contents = json.loads(files[CONTENTS])
    contents["files"][name] = contents["files"]["bundle.json"]
    files[CONTENTS] = json.dumps(contents).encode()


def other_byte(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    files[INSIDE + "thresholds.json"] = files[INSIDE + "thresholds.json"].replace(b"0.5", b"0.9")


def missing(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    del files[INSIDE + "thresholds.json"]


def unlisted(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    files["bundle/engines/extra"] = b"x"
    heads.append(zipfile.ZipInfo("bundle/engines/extra"))


def link(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    heads[-1].external_attr = (stat.S_IFLNK | 0o777) << 16


def outside(name: str) -> Change:
    def change(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
        files[INSIDE + name] = files[INSIDE + "bundle.json"]
        heads.append(zipfile.ZipInfo(INSIDE + name))
        listed(files, name)

    return change


def no_list(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    files[CONTENTS] = b'{"format": 1, "files": 5}'


def later_format(files: dict[str, bytes], heads: list[zipfile.ZipInfo]) -> None:
    files[CONTENTS] = files[CONTENTS].replace(b'"format": 1', b'"format": 2')


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_byte, "thresholds.json is not what was packed"),
        (missing, "holds other files than its list says"),
        (unlisted, "holds other files than its list says"),
        (link, "is no plain file"),
        (outside("../evil"), "is no path in a bundle"),
        (outside("/etc/evil"), "is no path in a bundle"),
        (outside("a/./b"), "is no path in a bundle"),
        (outside("a\\b"), "is no path in a bundle"),
        (outside("c:evil"), "is no path in a bundle"),
        (no_list, "its list cannot be read"),
        (later_format, "has format 2"),
    ],
)
def test_what_is_not_as_it_was_packed_is_refused(
    tmp_path: Path, packed: Path, change: Change, said: str
) -> None:
    target = rewritten(packed, tmp_path / "other.zip", change)
    with pytest.raises(DataError, match=said) as caught:
        unpack(target, tmp_path / "line" / "out")
    assert caught.value.next_step
    assert not (tmp_path / "line").exists() or list((tmp_path / "line").iterdir()) == []
    assert not (tmp_path / "evil").exists()


def test_an_archive_that_grows_is_refused_before_it_is_read(tmp_path: Path, packed: Path) -> None:
    target = rewritten(
        packed, tmp_path / "small.zip", lambda *_: None, compression=zipfile.ZIP_DEFLATED
    )
    with pytest.raises(DataError, match="is no plain file"):
        unpack(target, tmp_path / "out")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_files_of_one_name_are_refused(tmp_path: Path, packed: Path) -> None:
    with zipfile.ZipFile(packed, "a") as archive:
        archive.writestr(INSIDE + "bundle.json", b"another")
    with pytest.raises(DataError, match="holds other files"):
        unpack(packed, tmp_path / "out")


@pytest.mark.parametrize("damage", ["cut", "byte", "text", "absent"])
def test_a_damaged_file_is_refused(tmp_path: Path, packed: Path, damage: str) -> None:
    content = bytearray(packed.read_bytes())
    if damage == "cut":
        del content[len(content) // 2 :]
    elif damage == "byte":
        content[len(content) // 2] ^= 255
    else:
        content = bytearray(b"hello")
    packed.write_bytes(content)
    if damage == "absent":
        packed.unlink()
    with pytest.raises(DataError):
        unpack(packed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_bundle_that_does_not_open_is_not_left_behind(tmp_path: Path, bundle: Bundle) -> None:
    (bundle.path / "segmenter.onnx").write_bytes(b"damaged")
    pack(bundle, tmp_path / "packed.zip")
    with pytest.raises(ModelError):
        unpack(tmp_path / "packed.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, bundle: Bundle, packed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(packing, "_copy", full)
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(StorageError, match="the disk is full"):
        pack(bundle, tmp_path / "second.zip")
    with pytest.raises(StorageError, match="the disk is full"):
        unpack(packed, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_the_commands(tmp_path: Path, bundle: Bundle) -> None:
    def run(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "dad_edge", "bundle", *command],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
        )

    assert run("pack", "--out", "one.zip").returncode == 0
    assert run("unpack", "one.zip", "--out", "two").returncode == 0
    same = run("diff", "one.zip", "two", "--json")
    assert (same.returncode, json.loads(same.stdout)) == (0, {"differences": []})
    other = json.loads((tmp_path / "two" / "thresholds.json").read_text())
    (tmp_path / "two" / "thresholds.json").write_text(json.dumps(other | {"image_threshold": 0.9}))
    changed = run("diff", "one.zip", "two", "--json")
    assert changed.returncode == 1
    assert "can change" in changed.stderr
    [found] = json.loads(changed.stdout)["differences"]
    assert (found["what"], found["after"]) == ("thresholds: image_threshold", "0.9")
    nothing = run("diff", "one.zip", "three")
    assert (nothing.returncode, "three does not exist" in nothing.stderr) == (2, True)
