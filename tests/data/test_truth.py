"""The true mask of an image, and what is said of unusual ones."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.data.digest import digest_items
from dad_edge.data.listing import Item
from dad_edge.data.truth import read_truth
from dad_edge.errors import DataError

FRAME = np.zeros((20, 30, 3), np.uint8)


def item(tmp_path: Path, *masks: np.ndarray) -> Item:
    """A part with a mask, or with a folder of several."""
    cv2.imwrite(str(tmp_path / "part.png"), FRAME)
    (tmp_path / "part").mkdir()
    for index, mask in enumerate(masks):
        cv2.imwrite(str(tmp_path / "part" / f"{index:03}.png"), mask)
    path = tmp_path / "part" / "000.png" if len(masks) == 1 else tmp_path / "part"
    return Item(tmp_path / "part.png", "dent", path)


def rows(start: int, stop: int) -> np.ndarray:
    mask = np.zeros((20, 30), np.uint8)
    mask[start:stop] = 1
    return mask


def test_a_folder_of_masks_is_one(tmp_path: Path) -> None:
    truth = read_truth(item(tmp_path, rows(0, 2), rows(8, 9)), FRAME)
    assert truth is not None
    assert truth.dtype == np.uint8
    assert np.flatnonzero(truth.any(axis=1)).tolist() == [0, 1, 8]


def test_the_digest_follows_every_mask_of_a_folder(tmp_path: Path) -> None:
    part = item(tmp_path, rows(0, 2), rows(8, 9))
    before = digest_items([part])
    assert digest_items([part]) == before
    cv2.imwrite(str(tmp_path / "part" / "001.png"), rows(8, 10))
    assert digest_items([part]) != before


def test_a_mask_that_marks_nothing_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert read_truth(item(tmp_path, rows(0, 0)), FRAME) is None
    assert "000.png marks nothing" in caplog.text


@pytest.mark.parametrize(("stop", "said"), [(20, True), (17, True), (16, False)])
def test_a_mask_that_marks_nearly_everything_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, stop: int, said: bool
) -> None:
    assert read_truth(item(tmp_path, rows(0, stop)), FRAME) is not None
    assert ("is it inverted?" in caplog.text) == said


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"mask .*000\.png is 20×30 pixels, but its image"
    ) as caught:
        read_truth(item(tmp_path, rows(0, 2).T), FRAME)
    assert "at the size of its image" in caught.value.next_step
