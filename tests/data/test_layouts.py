from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import touch

from dad_edge.data.folder import images_in
from dad_edge.data.layouts import find_layout, list_items
from dad_edge.errors import DataError


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


@pytest.mark.parametrize(
    "name", ["OK", "Good", "normal", "Normal", "defect_free", "Anomaly-Free", "NON defective"]
)
def test_every_name_of_good_parts_is_one_kind(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "train/good/0.png", f"test/{name}/1.png", "test/dent/2.png")
    assert [item.kind for item in list_items(tmp_path, "test")] in (
        ["good", "dent"],
        ["dent", "good"],
    )


def test_names_of_good_parts_in_two_folders_differ(tmp_path: Path) -> None:
    touch(tmp_path, "train/Good/0.png", "test/good/0.png", "test/OK/0.png", "test/OK/1.png")
    names = [item.name for item in list_items(tmp_path, "test")]
    assert names == ["good/OK_0.png", "good/1.png", "good/good_0.png"]


@pytest.mark.parametrize(
    ("train", "layout"),
    [
        ("Train/GOOD", "MVTec AD"),
        ("train/Normal", "MVTec AD"),
        ("TRAIN/OK", "BTAD"),
        ("Good", "good and bad folders"),
        ("OK", "good and bad folders"),
    ],
)
def test_layouts_are_recognised_in_any_case(tmp_path: Path, train: str, layout: str) -> None:
    touch(tmp_path, f"{train}/0.PGM", f"{train}/1.jfif")
    assert find_layout(tmp_path).name == layout
    assert len(list_items(tmp_path, "train")) == 2


def test_tool_folders_are_no_kinds(tmp_path: Path) -> None:
    touch(tmp_path, "train/good/0.png", "test/good/0.png", "test/dent/._1.png", "test/dent/1.png")
    for tool in (".ipynb_checkpoints", "__MACOSX", "@eaDir", "#recycle", ".Trash-1000"):
        touch(tmp_path, f"test/{tool}/0.png", f"train/good/{tool}/0.png")
    assert [item.name for item in list_items(tmp_path, "test")] == ["dent/1.png", "good/0.png"]


def test_images_of_one_stem_share_a_mask_and_it_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    touch(tmp_path, "train/good/0.png", "test/dent/a.png", "test/dent/a.jpg")
    mask = touch(tmp_path, "ground_truth/dent/a_mask.png") / "ground_truth/dent/a_mask.png"
    assert [item.mask for item in list_items(tmp_path, "test")] == [mask, mask]
    assert "share the mask" in caplog.text


def test_names_are_printable_whatever_the_bytes(tmp_path: Path) -> None:
    latin = os.fsdecode(b"r\xfcckseite")
    try:
        touch(tmp_path, "train/good/0.png", f"test/{latin}/{latin}.png")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    touch(tmp_path, f"ground_truth/{latin}/{latin}_mask.png")
    (item,) = list_items(tmp_path, "test")
    assert item.name == r"r\xfcckseite/r\xfcckseite.png"
    assert item.mask is not None
    assert item.path.is_file()


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
    ("names", "holds"),
    [
        ((), "nothing"),
        (("train/bad/a.png", "b.txt"), "b.txt, train"),
        (("validation/dents/a.png",), "validation"),
    ],
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


def test_btad(tmp_path: Path) -> None:
    touch(tmp_path, "train/ok/0.bmp", "test/ok/1.bmp", "test/ko/2.bmp", "ground_truth/ko/2.png")
    assert find_layout(tmp_path).name == "BTAD"
    assert [item.name for item in list_items(tmp_path, "train")] == ["good/0.bmp"]
    test = {item.name: item.mask for item in list_items(tmp_path, "test")}
    assert test == {"good/1.bmp": None, "ko/2.bmp": tmp_path / "ground_truth/ko/2.png"}


def test_dagm(tmp_path: Path) -> None:
    for split in ("Train", "Test"):
        names = ("0001.PNG", "0002.PNG", "Label/0002_label.PNG", "Label/Labels.txt")
        touch(tmp_path / "Class1" / split, *names)
    root = tmp_path / "Class1"
    assert [item.name for item in list_items(root, "train")] == ["good/0001.PNG"]
    test = {item.name: item.mask for item in list_items(root, "test")}
    assert test == {"good/0001.PNG": None, "defect/0002.PNG": root / "Test/Label/0002_label.PNG"}
    with pytest.raises(DataError, match="but holds: Class1") as caught:
        list_items(tmp_path, "train")
    assert f"--data {root}" in caught.value.next_step


def visa(root: Path, *rows: str) -> Path:
    images = "candle/Data/Images"
    masks = "candle/Data/Masks/Anomaly/000.png"
    touch(root, f"{images}/Normal/0.JPG", f"{images}/Normal/1.JPG", f"{images}/Anomaly/000.JPG")
    touch(root, masks, "split_csv/1cls.csv")
    lines = rows or (
        f"candle,train,normal,{images}/Normal/0.JPG,",
        f"candle,test,normal,{images}/Normal/1.JPG,",
        f"candle,test,anomaly,{images}/Anomaly/000.JPG,{masks}",
        "capsules,test,normal,capsules/Data/Images/Normal/0.JPG,",
    )
    table = "\n".join(("object,split,label,image,mask", *lines))
    (root / "split_csv/1cls.csv").write_text(table, encoding="utf-8")
    return root / "candle"


def test_visa(tmp_path: Path) -> None:
    root = visa(tmp_path)
    assert [item.name for item in list_items(root, "train")] == ["good/0.JPG"]
    test = {item.name: item.mask for item in list_items(root, "test")}
    mask = root / "Data/Masks/Anomaly/000.png"
    assert test == {"good/1.JPG": None, "anomaly/000.JPG": mask}


ROW = "candle,train,normal,candle/Data/Images/Normal/0.JPG,"


@pytest.mark.parametrize(
    ("rows", "error"),
    [
        ((ROW, ROW), "line 3: column 'image' names"),
        ((ROW.replace("0.JPG", "9.JPG"),), "line 2: column 'image': there is no file"),
        ((ROW.replace("normal", "odd"),), "line 2: column 'label' is 'odd'"),
        ((ROW.replace("normal", "anomaly"),), "line 2: column 'label' puts an anomaly"),
        (("candle,train",), "line 2: column 'label' is missing"),
    ],
)
def test_a_damaged_visa_split(tmp_path: Path, rows: tuple[str, ...], error: str) -> None:
    with pytest.raises(DataError, match=error):
        list_items(visa(tmp_path, *rows), "train")


def test_visa_without_its_split(tmp_path: Path) -> None:
    root = visa(tmp_path)
    (tmp_path / "split_csv/1cls.csv").unlink()
    with pytest.raises(DataError, match="cannot read") as caught:
        list_items(root, "train")
    assert "put split_csv/1cls.csv" in caught.value.next_step


def test_every_fifth_good_image_is_held_out_for_the_test(tmp_path: Path) -> None:
    touch(tmp_path, *(f"good/{index}.png" for index in range(10)), "bad/b.png")
    train = {item.name for item in list_items(tmp_path, "train")}
    test = [item.name for item in list_items(tmp_path, "test")]
    assert test == ["bad/b.png", "good/4.png", "good/9.png"]
    assert len(train) == 8
    assert not train & set(test)
    touch(tmp_path, "test/good/x.png")
    assert len(list_items(tmp_path, "train")) == 10
    assert [item.name for item in list_items(tmp_path, "test")] == ["bad/b.png", "good/x.png"]


def test_kolektor(tmp_path: Path) -> None:
    for part in ("kos01", "kos02", "kos03"):
        touch(tmp_path, f"{part}/Part0.jpg", f"{part}/Part1.jpg")
        for name in ("Part0", "Part1"):
            label = np.zeros((8, 4), np.uint8)
            label[2, 1] = 255 * (part == "kos02" and name == "Part1")
            cv2.imwrite(str(tmp_path / part / f"{name}_label.bmp"), label)
    assert find_layout(tmp_path).name == "Kolektor SDD"
    train = [item.name for item in list_items(tmp_path, "train")]
    assert train == ["good/kos01_Part0.jpg", "good/kos01_Part1.jpg", "good/kos02_Part0.jpg"]
    test = {item.name: item.mask for item in list_items(tmp_path, "test")}
    assert test == {
        "defect/kos02_Part1.jpg": tmp_path / "kos02/Part1_label.bmp",
        "good/kos03_Part0.jpg": None,
        "good/kos03_Part1.jpg": None,
    }
    (tmp_path / "kos03/Part1_label.bmp").unlink()
    with pytest.raises(DataError, match=r"Part1\.jpg has no label Part1_label\.bmp"):
        list_items(tmp_path, "test")


@pytest.mark.parametrize(
    "masks",
    [
        *("masks/dent", "annotations/dent", "test/masks", "test/dent/masks", "ground_truth"),
        *("test/Ground-Truth/dent", "labels"),
    ],
)
def test_masks_are_found_and_are_no_kind_of_defect(tmp_path: Path, masks: str) -> None:
    touch(tmp_path, "train/good/0.png", "test/good/0.png", "test/dent/1.png", f"{masks}/1_mask.png")
    found = {item.name: item.mask for item in list_items(tmp_path, "test")}
    assert found == {"good/0.png": None, "dent/1.png": tmp_path / masks / "1_mask.png"}


@pytest.mark.parametrize(
    "good", ["goods", "pass", "PASS", "i.O.", "ok_front", "healthy", "no-defects"]
)
def test_other_words_for_good(tmp_path: Path, good: str) -> None:
    touch(tmp_path, "train/good/0.png", f"test/{good}/0.png", "test/dent/1.png")
    assert {item.kind for item in list_items(tmp_path, "test")} == {"good", "dent"}


@pytest.mark.parametrize(
    ("good", "bad"), [("OK", "NG"), ("OK", "NOK"), ("pass", "fail"), ("good", "Defective")]
)
def test_two_folders_as_factories_call_them(tmp_path: Path, good: str, bad: str) -> None:
    touch(tmp_path, *(f"{good}/{index}.png" for index in range(5)), f"{bad}/9.png")
    assert [item.kind for item in list_items(tmp_path, "train")] == ["good"] * 4
    assert [item.kind for item in list_items(tmp_path, "test")] == [bad, "good"]


def test_test_images_alone_can_be_judged(tmp_path: Path) -> None:
    touch(tmp_path, "test/good/0.png", "test/dent/1.png")
    assert len(list_items(tmp_path, "test")) == 2
    with pytest.raises(DataError, match="has no normal images") as caught:
        list_items(tmp_path, "train")
    assert "train/good" in caught.value.next_step


@pytest.mark.parametrize("folder", ["CVS", "_gsdata_", "@Recycle", "node_modules"])
def test_folders_of_other_programs_are_no_kind(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, "train/good/0.png", "test/dent/1.png", f"test/{folder}/2.png")
    assert [item.kind for item in list_items(tmp_path, "test")] == ["dent"]
