from __future__ import annotations

from pathlib import Path

import pytest

from dad_edge.data.layouts import find_layout, images_in, list_items
from dad_edge.errors import DataError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    return touch(
        tmp_path,
        "train/good/001.png",
        "train/good/000.JPG",
        "train/good/notes.txt",
        "train/good/.hidden.png",
        "test/good/000.png",
        "test/scratch/000.png",
        "test/scratch/001.png",
        "test/dent {x}/007.jpg",
        "test/readme.md",
        "ground_truth/scratch/000_mask.png",
        "ground_truth/dent {x}/007.bmp",
    )


def test_mvtec_layout(mvtec: Path) -> None:
    assert find_layout(mvtec).name == "MVTec AD"
    train = list_items(mvtec, "train")
    assert [item.name for item in train] == ["good/000.JPG", "good/001.png"]
    assert all(item.mask is None for item in train)
    test = {item.name: item.mask for item in list_items(mvtec, "test")}
    assert test == {
        "dent {x}/007.jpg": mvtec / "ground_truth/dent {x}/007.bmp",
        "good/000.png": None,
        "scratch/000.png": mvtec / "ground_truth/scratch/000_mask.png",
        "scratch/001.png": None,
    }


def test_good_and_bad_folders(tmp_path: Path) -> None:
    touch(tmp_path, "good/a.png", "bad/b.png", "bad_edge/c.png")
    assert find_layout(tmp_path).name == "good and bad folders"
    assert [item.name for item in list_items(tmp_path, "train")] == ["good/a.png"]
    assert [item.kind for item in list_items(tmp_path, "test")] == ["bad", "bad_edge"]


def test_a_plain_folder_has_no_test_split(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "b.webp")
    assert len(list_items(tmp_path, "train")) == 2
    with pytest.raises(DataError, match="has no test images") as caught:
        list_items(tmp_path, "test")
    assert "test/<kind>" in caught.value.next_step


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        find_layout(tmp_path / "missing")


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is a file, not a folder"):
        find_layout(touch(tmp_path, "a.png") / "a.png")


@pytest.mark.parametrize(
    ("names", "holds"), [((), "nothing"), (("train/OK/a.png", "b.txt"), "b.txt, train")]
)
def test_a_wrong_layout_says_what_is_there(
    tmp_path: Path, names: tuple[str, ...], holds: str
) -> None:
    with pytest.raises(DataError, match=f"it holds: {holds}") as caught:
        list_items(touch(tmp_path, *names), "train")
    assert "train/good" in caught.value.next_step


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(DataError, match=r"cannot read folder .*: Permission denied"):
        images_in(tmp_path)
