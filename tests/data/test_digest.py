"""The digest of a data set follows names, images and masks, and nothing else."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import list_items

FILES = {
    "train/good/0.png": b"normal",
    "test/good/1.png": b"good",
    "test/dent/1.png": b"dented",
    "test/dent/2.png": b"dented too",
    "ground_truth/dent/1_mask.png": b"mask",
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, content in FILES.items():
        path = tmp_path / "plates" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return tmp_path / "plates"


def digest(root: Path) -> str:
    return digest_items(list_items(root, "test"))


def test_it_is_the_digest_of_sorted_lines(data: Path) -> None:
    one, two, good, mask = (
        hashlib.sha256(content).hexdigest()
        for content in (b"dented", b"dented too", b"good", b"mask")
    )
    text = f"dent/1.png\t{one}\t{mask}\ndent/2.png\t{two}\t-\ngood/1.png\t{good}\t-\n"
    assert digest(data) == hashlib.sha256(text.encode()).hexdigest()


def test_place_and_order_change_nothing(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "elsewhere")
    assert digest(tmp_path / "elsewhere") == digest(data)
    assert digest_items(reversed(list_items(data, "test"))) == digest(data)


@pytest.mark.parametrize(
    "name", [name for name in FILES if not name.startswith("train")] + ["test/good/new.png"]
)
def test_every_file_counts(data: Path, name: str) -> None:
    before = digest(data)
    (data / name).write_bytes(b"other")
    assert digest(data) != before


def test_a_renamed_or_missing_file_counts(data: Path) -> None:
    before = digest(data)
    image = data / "test/good/1.png"
    image.rename(image.with_name("2.png"))
    renamed = digest(data)
    (data / "test/good/2.png").unlink()
    assert len({before, renamed, digest(data)}) == 3
