from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from dad_edge.bundle import PACKAGED, Bundle, open_bundle
from dad_edge.errors import ModelError, StorageError, UsageError
from dad_edge.line.config import CameraConfig
from dad_edge.line.thresholds import BundleThresholds, OwnThresholds, ThresholdBook

PLAIN = CameraConfig(source="demo://")


def edit(path: Path, **values: object) -> None:
    mapping = json.loads(path.read_text(encoding="utf-8")) | values
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(mapping), encoding="utf-8")
    os.replace(draft, path)


def noticed(file: BundleThresholds | OwnThresholds) -> bool:
    """Whether a change is taken when the file has stood still from one look to the next."""
    assert not file.reload()
    return file.reload()


def test_the_file_of_a_bundle_is_read_again_when_it_changes(tiny_bundle: Bundle) -> None:
    file = BundleThresholds(tiny_bundle)
    assert file.image_threshold(None) == 0.5
    assert not file.reload()
    edit(file.path, image_threshold=0.75, scene={"brightness": [0.1, 0.9], "contrast": [0, 0.5]})
    assert file.image_threshold(None) == 0.5
    assert noticed(file)
    assert file.image_threshold(None) == 0.75
    assert file.scene is not None
    assert file.scene.brightness == (0.1, 0.9)
    assert not file.reload()


def test_a_damaged_file_changes_nothing_and_is_told_of_once(tiny_bundle: Bundle) -> None:
    file = BundleThresholds(tiny_bundle)
    edit(file.path, image_threshold=55)
    with pytest.raises(ModelError, match="must lie in"):
        noticed(file)
    assert not file.reload()
    assert file.image_threshold(None) == 0.5
    file.path.unlink()
    with pytest.raises(ModelError, match="is gone"):
        noticed(file)
    assert file.image_threshold(None) == 0.5


def test_a_file_that_is_still_being_written_is_left_alone(tiny_bundle: Bundle) -> None:
    file = BundleThresholds(tiny_bundle)
    mapping = json.loads(file.path.read_text(encoding="utf-8"))
    text = json.dumps(mapping | {"image_threshold": 0.75})
    for end in (0, 1, len(text) // 2, len(text)):
        file.path.write_text(text[:end], encoding="utf-8")
        assert not file.reload()
    assert file.reload()
    assert file.image_threshold(None) == 0.75


def test_a_threshold_is_written_whole_and_the_rest_of_the_file_stays(tiny_bundle: Bundle) -> None:
    file = BundleThresholds(tiny_bundle)
    before = json.loads(file.path.read_text(encoding="utf-8"))
    file.write(0.25)
    assert json.loads(file.path.read_text(encoding="utf-8")) == before | {"image_threshold": 0.25}
    assert file.image_threshold(None) == 0.25
    assert not file.reload()
    assert sorted(path.name for path in tiny_bundle.path.glob(".*")) == []


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_threshold_is_refused(tiny_bundle: Bundle, tmp_path: Path, value: float) -> None:
    for file in (BundleThresholds(tiny_bundle), OwnThresholds(tmp_path / "a.json", 0.5)):
        with pytest.raises(UsageError, match="must lie in"):
            file.write(value)
        assert file.image_threshold(None) == 0.5
    assert not (tmp_path / "a.json").exists()


def test_a_bundle_that_was_not_calibrated_has_no_file_to_write(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / "thresholds.json").unlink()
    file = BundleThresholds(open_bundle(tiny_bundle.path))
    assert (file.image_threshold(None), file.scene) == (0.5, None)
    with pytest.raises(UsageError, match="has no"):
        file.write(0.4)


def test_a_threshold_of_a_camera_outlives_a_restart_until_line_toml_changes(tmp_path: Path) -> None:
    path = tmp_path / "left.json"
    file = OwnThresholds(path, 0.4)
    assert file.image_threshold(None) == 0.4
    assert not path.exists()
    file.write(0.6)
    assert file.image_threshold(None) == 0.6
    assert OwnThresholds(path, 0.4).image_threshold(None) == 0.6
    assert OwnThresholds(path, 0.45).image_threshold(None) == 0.45


def test_a_threshold_of_a_camera_is_read_again_when_its_file_changes(tmp_path: Path) -> None:
    file = OwnThresholds(tmp_path / "left.json", 0.4)
    file.write(0.6)
    edit(file.path, image_threshold=0.7)
    assert noticed(file)
    assert file.image_threshold("any") == 0.7
    file.path.unlink()
    assert noticed(file)
    assert file.image_threshold("any") == 0.4
    file.path.write_text("{", encoding="utf-8")
    with pytest.raises(ModelError, match="not valid JSON"):
        noticed(file)
    assert file.image_threshold("any") == 0.4


def test_a_folder_that_cannot_be_written_leaves_the_threshold(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    file = OwnThresholds(tmp_path / "file" / "left.json", 0.4)
    with pytest.raises(StorageError, match="in the way"):
        file.write(0.5)
    assert file.image_threshold(None) == 0.4


def test_cameras_of_a_bundle_share_its_file_and_a_camera_with_its_own_does_not(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    book = ThresholdBook(tmp_path / "line")
    own = CameraConfig(source="demo://", threshold=0.3)
    first, second = (book.of_camera(name, PLAIN, tiny_bundle) for name in ("a", "b"))
    third = book.of_camera("c", own, tiny_bundle)
    assert first is second
    first.write(0.8)
    third.write(0.2)
    assert (second.image_threshold(None), third.image_threshold(None)) == (0.8, 0.2)
    assert third.path == tmp_path / "line" / "thresholds" / "c.json"


def test_the_bundle_of_the_package_is_never_written(tmp_path: Path) -> None:
    book = ThresholdBook(tmp_path)
    before = (PACKAGED / "thresholds.json").read_bytes()
    file = book.of_camera("a", PLAIN, open_bundle(PACKAGED))
    file.write(0.9)
    assert (PACKAGED / "thresholds.json").read_bytes() == before
    assert book.of_camera("b", PLAIN, open_bundle(PACKAGED)) is file
    assert tmp_path in file.path.parents


def test_the_book_names_what_changed_and_what_is_wrong(tiny_bundle: Bundle, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(tiny_bundle.path, other)
    book = ThresholdBook(tmp_path)
    files = [book.of_camera("a", PLAIN, open_bundle(path)) for path in (tiny_bundle.path, other)]
    assert book.reload() == ([], [])
    edit(files[0].path, image_threshold=0.6)
    files[1].path.write_text("?", encoding="utf-8")
    assert book.reload() == ([], [])
    changed, errors = book.reload()
    assert changed == [files[0]]
    assert [str(other) in error.message for error in errors] == [True]
    assert book.reload() == ([], [])


def test_a_threshold_that_an_engine_has_of_its_own_gives_way_to_an_edited_file(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str | None] = []

    def of_engine(bundle: Bundle, name: str | None) -> tuple[object, str]:
        asked.append(name)
        return bundle.thresholds, "test"

    monkeypatch.setattr("dad_edge.line.thresholds.thresholds_for", of_engine)
    file = BundleThresholds(tiny_bundle)
    for _ in range(3):
        assert file.image_threshold("int8") == 0.5
    assert asked == ["int8"]
    file.write(0.3)
    assert file.image_threshold("int8") == 0.3
    assert asked == ["int8", "int8"]
