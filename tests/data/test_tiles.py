"""Long parts get tiles by themselves, square ones and the user's own choice stay as they are."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from tiny import TINY

from dad_edge.data.tiles import find_tiles, with_tiles


def save(root: Path, *shapes: tuple[int, int]) -> list[Path]:
    root.mkdir(exist_ok=True)
    paths = [root / f"{index}.png" for index in range(len(shapes))]
    for path, shape in zip(paths, shapes, strict=True):
        cv2.imwrite(str(path), np.full((*shape, 3), 90, np.uint8))
    return paths


@pytest.mark.parametrize(
    ("shapes", "tiles"),
    [
        (((64, 64),), (1, 1)),
        (((60, 32),), (1, 1)),
        (((64, 32),), (2, 1)),
        (((100, 40),), (2, 1)),
        (((32, 96),), (1, 3)),
        (((20, 400),), (1, 4)),
        (((64, 32), (40, 40), (44, 40)), (1, 1)),
        (((30, 90), (30, 90), (40, 40)), (1, 3)),
    ],
)
def test_tiles_follow_the_shape_of_most_images(
    tmp_path: Path, shapes: tuple[tuple[int, int], ...], tiles: tuple[int, int]
) -> None:
    assert find_tiles(save(tmp_path / "parts", *shapes)) == tiles


def test_a_picture_that_lies_on_its_side_counts_as_it_stands(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("RGB", (96, 32)).save(tmp_path / "0.jpg", exif=exif)
    assert find_tiles([tmp_path / "0.jpg"]) == (3, 1)


def test_the_rest_of_the_settings_stays(tmp_path: Path) -> None:
    save(tmp_path, (64, 32), (64, 32))
    model = with_tiles(TINY, tmp_path)
    assert model.framing.tiles == (2, 1)
    assert model.framing.keep_aspect == TINY.framing.keep_aspect
    assert model.denoiser == TINY.denoiser
