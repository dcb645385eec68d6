"""Which files of a folder are images, which are masks, and that nothing is left out unsaid."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.data.folder import (
    Masks,
    existing,
    folders_at,
    images_below,
    images_in,
    is_image,
    marked_stem,
    say_left_out,
)
from dad_edge.data.layouts import list_items
from dad_edge.errors import DataError

PICTURE = cv2.imencode(".png", np.zeros((4, 4), np.uint8))[1].tobytes()


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    "name",
    ["a.png", "a.PNG", "a.jpg", "a.JPEG", "a.jfif", "a.TIF", "a.tiff", "a.pgm", "a.PPM", "a.b.bmp"],
)
def test_names_of_images(name: str) -> None:
    assert is_image(name)


@pytest.mark.parametrize(
    "name", ["._a.png", ".a.png", "Thumbs.db", ".DS_Store", "a.txt", "a.gif", "png", "desktop.ini"]
)
def test_names_of_other_files(name: str) -> None:
    assert not is_image(name)


@pytest.mark.parametrize(
    ("stem", "image"),
    [
        ("000_mask", "000"),
        ("000_GT", "000"),
        ("a b-label", "a b"),
        ("part.mask", "part"),
        ("0_ground_truth", "0"),
        ("mask_7", "7"),
        ("a_mask_mask", "a_mask"),
        ("000", None),
        ("mask", None),
        ("unmasked", None),
        ("gt86", None),
    ],
)
def test_names_of_masks(stem: str, image: str | None) -> None:
    assert marked_stem(stem) == image


def test_masks_beside_images_are_no_images(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "A_Mask.PNG", "b.jpg", "gt_b.png", "c_mask.png")
    assert [path.name for path in images_in(tmp_path)] == ["a.png", "b.jpg", "c_mask.png"]


def test_folders_are_found_in_any_spelling(tmp_path: Path) -> None:
    touch(tmp_path, "Ground Truth/Scratch/0.png", "Test/B/0.png", "Test/a/0.png")
    touch(tmp_path, "Test/.ipynb_checkpoints/0.png", "Test/@eaDir/0.png", "Test/__MACOSX/0.png")
    assert folders_at(tmp_path, "ground_truth/{kind}", "scratch") == [
        tmp_path / "Ground Truth/Scratch"
    ]
    assert folders_at(tmp_path, "test/*") == [tmp_path / "Test/B", tmp_path / "Test/a"]
    touch(tmp_path, "test/x/0.png")
    assert folders_at(tmp_path, "test/*") == [tmp_path / "test/x"], "the exact name comes first"


def test_a_kind_is_no_pattern(tmp_path: Path) -> None:
    touch(tmp_path, "gt/a/0.png", "gt/[a]*/0.png")
    assert folders_at(tmp_path, "gt/{kind}", "[a]*") == [tmp_path / "gt/[a]*"]
    assert folders_at(tmp_path, "gt/{kind}", "*") == []


def test_accents_may_be_encoded_in_either_way(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    touch(tmp_path, decomposed)
    assert existing(tmp_path / composed) == tmp_path / decomposed
    assert existing(tmp_path / decomposed) == tmp_path / decomposed
    assert existing(tmp_path / "absent.png") == tmp_path / "absent.png"
    masks = Masks([touch(tmp_path / "gt", decomposed)], tmp_path)
    assert masks.of(tmp_path / composed) == tmp_path / "gt" / decomposed


def test_the_best_of_several_masks(tmp_path: Path) -> None:
    gt = touch(tmp_path / "gt", "0.png", "0_mask.png", "0_gt.png", "a.png", "A.png", "1/0.png")
    masks = Masks([gt], touch(tmp_path / "images", "2.png", "2_mask.png", "3.png", "3.jpg"))
    names = {stem: masks.of(Path(f"{stem}.jpg")) for stem in ("0", "A", "a", "1", "2", "3", "4")}
    assert {
        stem: path and path.relative_to(tmp_path).as_posix() for stem, path in names.items()
    } == {
        "0": "gt/0_mask.png",
        "A": "gt/A.png",
        "a": "gt/a.png",
        "1": "gt/1",
        "2": "images/2_mask.png",
        "3": None,
        "4": None,
    }


def test_what_is_left_out_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    touch(
        tmp_path,
        "train/good/0.png",
        "train/good/0_mask.png",
        "train/good/day2/1.png",
        "train/good/.2.png",
        "train/good/3.gif",
        "train/good/notes.txt",
        "train/good/Thumbs.db",
        "test/good/0.png",
        "test/dent/0.png",
        "test/.ipynb_checkpoints/0-checkpoint.png",
        "ground_truth/dent/0_mask.png",
        "ground_truth/dent/9_mask.png",
        "validation/good/0.png",
    )
    (tmp_path / "train/good/scan").write_bytes(PICTURE)
    (tmp_path / "more").symlink_to(tmp_path / "validation/good")
    assert [item.name for item in list_items(tmp_path, "train")] == ["good/0.png"]
    said = [message.partition(": ")[2] for message in caplog.messages]
    assert sorted(said) == [
        "left out 1 image(s) in folders that are links: more/0.png.",
        "left out 1 mask(s) of no image that is read: ground_truth/dent/9_mask.png.",
        "left out 1 picture(s) named as masks of the images beside them: train/good/0_mask.png.",
        "left out 2 file(s) of kinds that are not read: train/good/3.gif, train/good/scan.",
        "left out 2 image(s) that this layout does not use: train/good/day2/1.png, "
        "validation/good/0.png.",
        "left out 2 picture(s) that are hidden or made by a tool: "
        "test/.ipynb_checkpoints/0-checkpoint.png, train/good/.2.png.",
    ]
    caplog.clear()
    assert len(list_items(tmp_path, "test")) == 2
    assert len(caplog.messages) == 6


def test_nothing_is_said_where_nothing_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "train/good/0.png", "test/good/0.png", "test/a/0.png", "test/a/1.png")
    touch(tmp_path, "ground_truth/a/0_mask.png", "ground_truth/a/1/0.png", "ground_truth/a/1/1.png")
    touch(tmp_path, "readme.md", "license.txt", ".DS_Store", "test/a/Thumbs.db")
    list_items(tmp_path, "train")
    list_items(tmp_path, "test")
    assert not caplog.messages


def test_a_few_names_stand_for_many(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    say_left_out(touch(tmp_path, *(f"{n}.png" for n in range(9))), [])
    assert "left out 9 image(s)" in caplog.text
    assert caplog.text.rstrip().endswith("0.png, 1.png, 2.png and more.")


def test_images_of_a_folder_and_of_its_subfolders(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "b/1.png", "a/2.JFIF", "a/2_mask.png", "Ground_Truth/1.png", "a/.x/3.png")
    touch(tmp_path, "__MACOSX/b/1.png", "@eaDir/1.png")
    names = [path.relative_to(tmp_path).as_posix() for path in images_below(tmp_path)]
    assert names == ["a/2.JFIF", "b/1.png"]
    assert "3 picture(s) that are hidden or made by a tool" in caplog.text
    assert "1 mask(s) of no image" in caplog.text
    caplog.clear()
    touch(tmp_path, "0.png")
    assert images_below(tmp_path) == [tmp_path / "0.png"]
    assert "2 image(s) that this layout does not use: a/2.JFIF, b/1.png" in caplog.text


def test_folders_that_link_to_each_other_end(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/good/0.png")
    (tmp_path / "test" / "loop").symlink_to(tmp_path)
    (tmp_path / "test" / "self").symlink_to("self")
    assert len(list_items(tmp_path, "test")) == 1
    with pytest.raises(DataError, match="has no images"):
        images_below(touch(tmp_path / "none", "readme.txt"))


def test_a_pipe_in_the_folder_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "commands")
    say_left_out(touch(tmp_path, "a.png"), [tmp_path / "a.png"])
