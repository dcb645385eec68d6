"""Images that a CSV file names."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny import touch

from dad_edge.data.layouts import find_layout, list_items
from dad_edge.errors import DataError

PARTS = (
    "path,split,kind,mask",
    "day1/a.png,train,good,",
    "day2/a.png,train,good,",
    "day2/b.png,test,good,",
    "day2/c.png,test,scratch,masks/c.png",
)


def parts(root: Path, *rows: str) -> Path:
    touch(root, "day1/a.png", "day2/a.png", "day2/b.png", "day2/c.png", "masks/c.png")
    (root / "parts.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root / "parts.csv"


def test_a_csv_of_paths(tmp_path: Path) -> None:
    table = parts(tmp_path, *PARTS)
    assert find_layout(table).name == "CSV of paths"
    train = list_items(table, "train")
    assert [item.path for item in train] == [tmp_path / "day1/a.png", tmp_path / "day2/a.png"]
    assert len({item.name for item in train}) == 2, "files of one name in two folders"
    test = {item.name: item.mask for item in list_items(table, "test")}
    assert test == {"good/day2_b.png": None, "scratch/day2_c.png": tmp_path / "masks/c.png"}


def test_a_csv_names_kinds_and_accents_as_its_author_likes(tmp_path: Path) -> None:
    touch(tmp_path, "é.png".replace("é", unicodedata.normalize("NFD", "é")), "b.png")
    table = tmp_path / "parts.csv"
    composed = unicodedata.normalize("NFC", "é.png")
    rows = ("path,split,kind", f"{composed},test,OK", "b.png,test,Dent")
    table.write_text("\n".join(rows), encoding="utf-8")
    assert [item.kind for item in list_items(table, "test")] == ["good", "Dent"]


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ("day1/a.png,train", "line 6: column 'kind' is missing"),
        ("day1/a.png,validation,good,", "line 6: column 'split' is 'validation'"),
        ("day1/a.png,test,,", "line 6: column 'kind' is empty"),
        ("day2/c.png,train,scratch,", "line 6: column 'kind' puts an anomaly into the train"),
        ("day1/z.png,train,good,", "line 6: column 'path': there is no file"),
        ("day1/a.png,train,good,masks/z.png", "line 6: column 'mask': there is no file"),
        ("day1/a.png,train,good,", "line 6: column 'path' names .* again"),
    ],
)
def test_a_csv_that_cannot_be_used(tmp_path: Path, row: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        list_items(parts(tmp_path, *PARTS, row), "train")


@pytest.mark.parametrize(
    "write",
    [
        lambda text: text.replace(",", ";"),
        lambda text: text.replace(",", "\t"),
        lambda text: text.replace(",", ", "),
        lambda text: text.replace("path,split,kind", "Path,Split,Kind").replace("train", "Train"),
        lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    ],
)
def test_a_csv_as_programs_write_it(tmp_path: Path, write: Callable[[str], str]) -> None:
    touch(tmp_path, "a.png", "b.png")
    table = tmp_path / "parts.csv"
    text = write("path,split,kind\na.png,train,good\nb.png,test,dent\n")
    table.write_bytes(text.encode())
    assert [item.name for item in list_items(table, "train")] == ["good/a.png"]
    assert [item.name for item in list_items(table, "test")] == ["dent/b.png"]


def test_a_csv_without_its_first_line_says_what_that_is(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_text("a.png,train,good\n", encoding="utf-8")
    with pytest.raises(DataError, match=r"lacks the column\(s\) path, split, kind") as caught:
        list_items(tmp_path / "parts.csv", "train")
    assert "path,split,kind" in caught.value.next_step


def test_a_csv_without_test_images_says_where_to_name_them(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    table = tmp_path / "parts.csv"
    table.write_text("path,split,kind\na.png,train,good\n", encoding="utf-8")
    with pytest.raises(DataError, match="has no test images") as caught:
        list_items(table, "test")
    assert "'test' in its column 'split'" in caught.value.next_step


def test_a_csv_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "parts.csv").write_bytes(b"path,split,kind\n\xff\xfe,train,good\n")
    with pytest.raises(DataError, match=r"cannot read .*parts\.csv"):
        list_items(tmp_path / "parts.csv", "train")
