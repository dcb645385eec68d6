"""One data set stored in many ways: reader, training set and evaluation find the same in each."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picture_files import encoded, indexed
from tiny import TINY, make_tiny_bundle

from dad_edge.config import TrainConfig
from dad_edge.data.dataset import TrainingSet
from dad_edge.data.depth import with_depth
from dad_edge.image.preprocess import read_frame
from dad_edge.report.evaluate import Candidate, bundle_candidate, evaluate
from dad_edge.report.results import Summary

HEIGHT, WIDTH = 40, 64
GREY, COLOUR = 1, 3

FILES = [
    *[(".png", c, d, o) for c in (GREY, COLOUR) for d in (8, 12, 16) for o in range(1, 9)],
    *[(".tif", c, d, o) for c in (GREY, COLOUR) for d in (8, 12, 16) for o in range(1, 9)],
    *[(".webp", COLOUR, 8, o) for o in range(1, 9)],
    *[(suffix, COLOUR, 8, 1) for suffix in (".bmp", ".ppm")],
    *[(".pgm", GREY, d, 1) for d in (8, 16)],
]
"""Suffix, channels, bits that are used, orientation."""

MASKS: dict[str, Callable[[np.ndarray, int], tuple[str, bytes]]] = {
    "255": lambda m, o: (".png", encoded(m * 255, ".png", o)),
    "1": lambda m, o: (".png", encoded(m, ".png", o)),
    "16 bits": lambda m, o: (".png", encoded(m.astype(np.uint16), ".png", o)),
    "TIFF": lambda m, o: (".TIF", encoded(m * 255, ".tif", o)),
    "palette": lambda m, o: (".png", indexed(m, [255, 255, 255, 0, 0, 0])),
    "BMP": lambda m, o: (".bmp", encoded(m * 255, ".bmp")),
    "colour": lambda m, o: (".Png", encoded(np.dstack([m * 0, m, m * 0]), ".png", o)),
}

LAYOUTS = {
    "MVTec AD": ("train/good", "test/good", "test/dent", "ground_truth/dent/{}_mask"),
    "other case": ("Train/Good", "Test/OK", "Test/dent", "Ground_Truth/Dent/{}_GT"),
    "BTAD": ("train/ok", "test/ok", "test/dent", "ground_truth/dent/{}"),
    "normal": ("train/normal", "test/Normal", "test/dent", "masks/dent/{}"),
    "beside": ("train/good", "test/good", "test/dent", "test/dent/{}_mask"),
    "LOCO": ("train/good", "test/good", "test/dent", "ground_truth/dent/{}/000"),
    "composed": ("train/good", "test/good", "test/dent é", "ground_truth/dent é/{}_mask"),
    "decomposed": (
        "train/good",
        "test/good",
        "test/dent é",
        unicodedata.normalize("NFD", "ground_truth/dent é/{}_mask"),
    ),
    "two folders": ("Good", "good_test", "Bad_dent", "ground_truth/Bad_dent/{}"),
}


def part(number: int, defective: bool, channels: int) -> np.ndarray:
    """A dark part, brighter towards one corner; a defect is bright and lies in another."""
    rng = np.random.default_rng(number)
    part = rng.integers(0, 40, (HEIGHT, WIDTH, channels), dtype=np.uint8)
    part[:10, :10] += 40
    if defective:
        part[marked().astype(bool)] = 230
    return part if channels == COLOUR else part[:, :, 0]


def marked() -> np.ndarray:
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[24:36, 4:40] = 1
    return mask


def deepened(pixels: np.ndarray, depth: int) -> np.ndarray:
    """8-bit pixels as a camera of another depth stores them; reading gives them back exactly."""
    if depth == 8:
        return pixels
    return np.rint(pixels * ((2**depth - 1) / 255)).astype(np.uint16)


def write_set(root: Path, layout: str, file: tuple[str, int, int, int], mask: str) -> Path:
    train, good, bad, masks = LAYOUTS[layout]
    suffix, channels, depth, orientation = file

    def write(path: Path, content: bytes) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    for index in range(10):
        folder, defective = ((train, False), (good, False), (bad, True))[index // 4]
        pixels = part(index, defective, channels)
        if index == 0:  # a normal part that shows how bright its camera can be
            pixels[0, 0] = 255
        content = encoded(deepened(pixels, depth), suffix, orientation)
        write(root / folder / f"{index}{suffix}", content)
        if defective:
            ending, stored_mask = MASKS[mask](marked(), orientation)
            write(root / f"{masks.format(index)}{ending}", stored_mask)
    return root


@pytest.fixture(scope="module")
def candidate(tmp_path_factory: pytest.TempPathFactory) -> Candidate:
    return bundle_candidate(make_tiny_bundle(tmp_path_factory.mktemp("bundle") / "b"))


def found(candidate: Candidate, root: Path) -> dict[str, object]:
    """Everything that must not depend on how the set is stored."""
    model = with_depth(TINY, root)
    report = evaluate(replace(candidate, model=model), root)
    batch = TrainingSet(root, model, TrainConfig(batch_size=4)).batch(0)
    return {
        "summary": report.summary,
        "scores": sorted((score.kind == "good", score.score) for score in report.scores),
        "images": batch.originals.tobytes(),
    }


@pytest.fixture(scope="module")
def expected(
    candidate: Candidate, tmp_path_factory: pytest.TempPathFactory
) -> dict[int, dict[str, object]]:
    """By channels: what plain 8-bit PNG files in the layout of MVTec AD give."""
    return {
        channels: found(
            candidate,
            write_set(
                tmp_path_factory.mktemp("plain"), "MVTec AD", (".png", channels, 8, 1), "255"
            ),
        )
        for channels in (GREY, COLOUR)
    }


def test_the_plain_set_tells_good_from_bad(expected: dict[int, dict[str, object]]) -> None:
    summary = expected[COLOUR]["summary"]
    assert isinstance(summary, Summary)
    assert summary.image_auroc.value == 1
    assert summary.pro.value is not None
    assert summary.pro.value > 0.5


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    file=st.sampled_from(FILES),
    mask=st.sampled_from(sorted(MASKS)),
    layout=st.sampled_from(sorted(LAYOUTS)),
)
def test_every_way_of_storing_gives_the_same(
    candidate: Candidate,
    expected: dict[int, dict[str, object]],
    tmp_path_factory: pytest.TempPathFactory,
    file: tuple[str, int, int, int],
    mask: str,
    layout: str,
) -> None:
    root = write_set(tmp_path_factory.mktemp("set"), layout, file, mask)
    assert found(candidate, root) == expected[file[1]]


@pytest.mark.parametrize("file", FILES, ids=str)
def test_every_file_is_read_as_the_picture_it_shows(
    tmp_path: Path, file: tuple[str, int, int, int]
) -> None:
    suffix, channels, depth, orientation = file
    pixels = part(1, True, channels)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(encoded(deepened(pixels, depth), suffix, orientation))
    shown = pixels if channels == COLOUR else cv2.merge([pixels] * 3)
    np.testing.assert_array_equal(read_frame(path, 12 if depth == 12 else None), shown)
