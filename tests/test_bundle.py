from __future__ import annotations

import codecs
import errno
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest
from small_networks import make_network_bundle, small_segmenter
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
    writable_bundle,
    write_calibration,
    write_thresholds,
)
from dad_edge.errors import ModelError, UsageError
from dad_edge.files import sha256_of


def edit(path: Path, **changes: Any) -> None:
    """Change keys of a JSON file; `None` removes one."""
    mapping = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in mapping.items() if v is not None}))


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


def test_numbers_in_another_file_are_refused(tmp_path: Path) -> None:
    """No digest would cover them."""
    made = make_network_bundle(tmp_path / "bundle", small_segmenter())
    path = made.path / SEGMENTER
    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    edit(made.path / MANIFEST, sha256={**made.manifest.sha256, SEGMENTER: sha256_of(path)})
    with pytest.raises(ModelError, match=r"segmenter\.onnx has the numbers of '\w+' in another"):
        open_bundle(made.path)


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
        ({"made_with": {"numpy": 2}}, r"made_with\.numpy: expected str, got 2"),
        ({"model": {"size": "nano", "lambdas": [100, 300]}}, "one of them was edited"),
        ({"model": {"top_k": 0}}, r"bundle\.json\.model: top_k must lie in"),
        ({"model": {"framing": {"overlap": 12.5}}}, r"model\.framing: overlap must lie in"),
        ({"model": {"framing": {"tiles": [2]}}}, r"model\.framing\.tiles: expected a list of len"),
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
        ({"image_threshold": "0,55"}, r"image_threshold: expected float, got '0,55'"),
        ({"image_threshold": float("nan")}, r"thresholds\.json cannot be read: not valid JSON"),
        ({"image_treshold": 0.5}, "unknown key 'image_treshold'"),
        ({"image_threshold": None}, "key 'image_threshold' is missing"),
        ({"image_threshold": 55}, r"json: image_threshold must lie in \[0, 1\], got 55.0"),
        ({"image_threshold": -0.1}, r"image_threshold must lie in \[0, 1\], got -0.1"),
        ({"image_threshold": 10**400}, "out of range"),
        ({"pixel_threshold": 1.01}, r"pixel_threshold must lie in \[0, 1\]"),
        (
            {"scene": {"brightness": [0.8, 0.2], "contrast": [0, 1]}},
            r"json\.scene: brightness must be two numbers in \[0, 1\], the smaller one first",
        ),
        (
            {"scene": {"brightness": [20, 80], "contrast": [0, 1]}},
            r"brightness must be two numbers in \[0, 1\]",
        ),
        ({"scene": {"brightness": [0, 1]}}, r"json\.scene: key 'contrast' is missing"),
        (
            {"scene": {"brightness": [0, 1], "contrast": [0, 1], "colour": [0, 1]}},
            r"json\.scene: unknown key 'colour'",
        ),
        ({"scene": {"brightness": [0.5], "contrast": [0, 1]}}, r"json\.scene\.brightness: "),
        ({"scene": 0.5}, r"json\.scene: "),
        ({"target_false_reject_rate": 1}, "target_false_reject_rate must lie between 0 and 1"),
        ({"target_false_reject_rate": 0}, "target_false_reject_rate must lie between 0 and 1"),
        ({"smallest_supported_rate": -1}, "smallest_supported_rate must lie between 0 and 1"),
        ({"normal_images": 0}, "normal_images must be at least 1"),
        ({"normal_images": 9.5}, "normal_images: expected int, got 9.5"),
        (
            {"normal_score_quantiles": {"0.5": 50}},
            r"quantiles\['0.5'\] must lie in \[0, 1\], got 50",
        ),
        ({"normal_score_quantiles": {"0.5": "0,5"}}, r"quantiles\.0\.5: expected float"),
        ({"normal_score_quantiles": [0.5]}, "normal_score_quantiles: expected a table"),
    ],
)
def test_wrong_thresholds_are_refused(
    tiny_bundle: Bundle, changes: dict[str, Any], says: str
) -> None:
    edit(tiny_bundle.path / THRESHOLDS, **changes)
    with pytest.raises(ModelError, match=says) as caught:
        open_bundle(tiny_bundle.path)
    assert "thresholds.json" in caught.value.message
    assert caught.value.next_step


def test_per_cent_are_answered_with_a_share(tiny_bundle: Bundle) -> None:
    edit(tiny_bundle.path / THRESHOLDS, image_threshold=55)
    with pytest.raises(ModelError) as caught:
        open_bundle(tiny_bundle.path)
    assert caught.value.next_step == "write a share such as 0.55, not 55 for per cent"


def test_thresholds_that_are_no_number_cannot_be_made(tiny_bundle: Bundle) -> None:
    assert tiny_bundle.thresholds is not None
    with pytest.raises(UsageError, match="image_threshold must lie in"):
        replace(tiny_bundle.thresholds, image_threshold=float("nan"))


def test_thresholds_of_an_editor_with_a_byte_order_mark_are_read(tiny_bundle: Bundle) -> None:
    path = tiny_bundle.path / THRESHOLDS
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))
    assert open_bundle(tiny_bundle.path).thresholds == tiny_bundle.thresholds


def test_what_is_read_is_written_with_the_same_bytes(tmp_path: Path) -> None:
    demo = open_bundle(PACKAGED)
    assert demo.thresholds is not None
    assert demo.calibration is not None
    copied = open_bundle(Path(shutil.copytree(PACKAGED, tmp_path / "bundle")))
    write_thresholds(copied, demo.thresholds)
    write_calibration(copied, demo.calibration)
    for name in (THRESHOLDS, CALIBRATION):
        assert (copied.path / name).read_bytes() == (PACKAGED / name).read_bytes()


@pytest.mark.parametrize("name", [THRESHOLDS, CALIBRATION])
def test_a_link_that_leads_nowhere_is_no_missing_file(tiny_bundle: Bundle, name: str) -> None:
    (tiny_bundle.path / name).unlink(missing_ok=True)
    (tiny_bundle.path / name).symlink_to("gone.json")
    with pytest.raises(ModelError, match=f"{name}: no such file"):
        open_bundle(tiny_bundle.path)


@pytest.mark.parametrize("name", ["../secret", "/dev/zero", "", "..", "a\0b", "x" * 300])
def test_a_manifest_names_files_of_its_bundle_only(tiny_bundle: Bundle, name: str) -> None:
    digests = json.loads((tiny_bundle.path / MANIFEST).read_text())["sha256"]
    edit(tiny_bundle.path / MANIFEST, sha256=digests | {name: "0" * 64})
    with pytest.raises(ModelError, match="is no file of the bundle"):
        open_bundle(tiny_bundle.path)


def test_a_disk_that_fails_is_named(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))

    monkeypatch.setattr(bundles, "sha256_of", fail)
    with pytest.raises(ModelError, match=r"denoiser\.onnx cannot be read: Input/output error"):
        open_bundle(tiny_bundle.path)


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "an empty folder": (Path.mkdir, r"it has no bundle\.json"),
    "a folder that lost its manifest": (
        lambda path: shutil.copytree(PACKAGED, path, ignore=shutil.ignore_patterns(MANIFEST)),
        r"it has no bundle\.json",
    ),
    "a file": (Path.touch, "it is a file, not a folder"),
    "a link that leads nowhere": (
        lambda path: path.symlink_to("gone"),
        "it is a link to gone, which does not exist",
    ),
    "a link to itself": (lambda path: path.symlink_to("bundle"), "symbolic links"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_bundle_here_is_refused_and_not_replaced_by_the_demo(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, reason = BROKEN[kind]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    make(tmp_path / "bundle")
    assert find_bundle() == (Path("bundle"), "./bundle")
    assert writable_bundle(Path("bundle")) == Path("bundle")
    with pytest.raises(ModelError, match=f"bundle is not a bundle: .*{reason}") as caught:
        open_bundle(Path("bundle"))
    assert "copy the whole bundle again" in caught.value.next_step
    assert "dad-edge export" in caught.value.next_step


def test_what_cannot_be_looked_at_is_not_replaced_by_the_demo(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.delenv(ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(Path, "lstat", refuse)
    assert find_bundle() == (Path("bundle"), "./bundle")


@pytest.mark.parametrize("value", ["", " "])
def test_an_empty_variable_is_refused(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, value)
    with pytest.raises(UsageError, match=f"{ENVIRONMENT_VARIABLE} is set, but empty") as caught:
        find_bundle()
    assert "unset" in caught.value.next_step


def test_a_variable_that_points_nowhere_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(ModelError, match="gone is not a bundle: there is no such folder"):
        open_bundle(find_bundle()[0])


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
