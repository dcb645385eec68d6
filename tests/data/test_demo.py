"""The demo product: repeatable, exact masks, plausible sizes, honest splits."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.data.demo import KINDS, DrawnPart, draw, line, part_seed, write_dataset
from dad_edge.data.demo.dataset import SPLITS
from dad_edge.errors import DataError, StorageError, UsageError

SEEDS = (3, 41, 500)


def test_same_seed_same_bytes_whatever_was_drawn_before() -> None:
    first = draw(12, "stain", 96)
    draw(99, "crack", 96)
    draw(12, "good", 64)
    again = draw(12, "stain", 96)
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    assert not np.array_equal(first.image, draw(13, "stain", 96).image)


def test_another_process_draws_the_same_part() -> None:
    code = (
        "from dad_edge.data.demo import draw; import zlib;"
        "s = draw(77, 'scratch', 96); print(zlib.crc32(s.image.tobytes() + s.mask.tobytes()))"
    )
    prints = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    assert prints[0].stdout == prints[1].stdout != ""


def test_coarse_look_is_pinned() -> None:
    """A 4×4 thumbnail, within 3 grey levels: enough to notice a changed product, not a rounding."""
    expected = [[51, 88, 108, 56], [87, 143, 157, 113], [84, 153, 123, 108], [52, 84, 94, 54]]
    grey = cv2.cvtColor(draw(5).image, cv2.COLOR_BGR2GRAY)
    thumbnail = cv2.resize(grey, (4, 4), interpolation=cv2.INTER_AREA).astype(int)
    assert np.abs(thumbnail - np.asarray(expected)).max() <= 3, thumbnail.tolist()


@pytest.mark.parametrize("size", [128, 200, 256])
def test_shapes_and_types(size: int) -> None:
    sample = draw(1, "dent", size)
    assert sample.image.shape == (size, size, 3)
    assert sample.mask.shape == (size, size)
    assert sample.image.dtype == sample.mask.dtype == np.uint8
    assert set(np.unique(sample.mask)) == {0, 255}
    assert not draw(1, "good", size).mask.any()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_defect_changes_the_picture_only_at_its_mask(kind: str, seed: int) -> None:
    good, bad = draw(seed), draw(seed, kind)
    change = np.abs(good.image.astype(int) - bad.image.astype(int)).max(axis=2)
    near = cv2.dilate(bad.mask, np.ones((21, 21), np.uint8)) > 0
    assert change[~near].max() == 0
    assert change[bad.mask > 0].mean() > 8
    close = cv2.dilate(bad.mask, np.ones((5, 5), np.uint8)) > 0
    assert change[close].sum() > 0.85 * change.sum()


@pytest.mark.parametrize("kind", KINDS)
def test_defects_are_on_the_part_and_of_visible_size(kind: str) -> None:
    for seed in range(200, 212):
        mask = draw(seed, kind).mask
        assert 150 <= np.count_nonzero(mask) <= 0.06 * mask.size
        rows, columns = np.nonzero(mask)
        assert np.hypot(rows - 127.5, columns - 127.5).max() < 256 * (0.42 + 0.03 * 1.5)
        small = cv2.resize(mask, (128, 128), interpolation=cv2.INTER_AREA) > 127
        assert np.count_nonzero(small) >= 30


def test_good_parts_vary_within_bounds() -> None:
    means = [float(draw(seed, size=64).image.mean()) for seed in range(40)]
    assert 3 < np.std(means) < 25
    assert 60 < min(means) < max(means) < 180


def test_unknown_kind_and_negative_seed_are_refused() -> None:
    with pytest.raises(ValueError, match="rust"):
        draw(0, "rust")
    with pytest.raises(ValueError, match="-1"):
        draw(-1)
    with pytest.raises(UsageError):
        part_seed("train", -1, 0)


def test_no_two_parts_share_a_seed() -> None:
    seeds = [
        part_seed(split, base, index)
        for split in SPLITS
        for base in (0, 1, 2, 77)
        for index in range(200)
    ]
    assert len(set(seeds)) == len(seeds)


def test_data_set_on_disk(tmp_path: Path) -> None:
    calls: list[tuple[int, int]] = []
    counts = write_dataset(
        tmp_path / "parts",
        train=3,
        test_good=2,
        test_per_kind=1,
        size=64,
        progress=lambda done, total: calls.append((done, total)),
    )
    assert counts == {"train/good": 3, "test/good": 2} | {f"test/{kind}": 1 for kind in KINDS}
    total = sum(counts.values())
    assert calls == [(done, total) for done in range(1, total + 1)]
    root = tmp_path / "parts"
    written = {path.relative_to(root).as_posix() for path in root.rglob("*.png")}
    expected = {"train/good/000.png", "train/good/001.png", "train/good/002.png"}
    expected |= {"test/good/000.png", "test/good/001.png"}
    for kind in KINDS:
        expected |= {f"test/{kind}/000.png", f"ground_truth/{kind}/000_mask.png"}
    assert written == expected
    third = cv2.imread(str(root / "train/good/002.png"), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(third, draw(part_seed("train", 0, 2), size=64).image)
    mask = cv2.imread(str(root / "ground_truth/dent/000_mask.png"), cv2.IMREAD_UNCHANGED)
    assert mask.ndim == 2
    assert set(np.unique(mask)) == {0, 255}
    pictures = [path.read_bytes() for path in root.glob("t*/*/*.png")]
    assert len(set(pictures)) == total


def test_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep me")
    with pytest.raises(DataError, match="not empty") as refused:
        write_dataset(tmp_path, train=1, test_good=1, test_per_kind=1, size=64)
    assert refused.value.next_step
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_file_in_place_of_the_folder_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "parts").write_text("a file")
    with pytest.raises(StorageError, match="parts"):
        write_dataset(tmp_path / "parts", train=1, test_good=0, test_per_kind=0, size=64)


def test_line_repeats_and_keeps_its_defect_rate() -> None:
    def kinds(rate: float) -> list[str]:
        return [part.kind for part in itertools.islice(line(4, rate, size=32), 120)]

    mixed = kinds(0.25)
    assert mixed == kinds(0.25)
    assert 0.12 < 1 - mixed.count("good") / len(mixed) < 0.4
    assert set(kinds(0.0)) == {"good"}
    assert set(kinds(1.0)) == set(KINDS)


def test_line_starts_with_the_same_part_each_time() -> None:
    first: DrawnPart = next(line(9, size=64))
    assert np.array_equal(first.image, next(line(9, size=64)).image)
    assert not np.array_equal(first.image, next(line(10, size=64)).image)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_line_refuses_a_rate_that_is_no_share(rate: float) -> None:
    with pytest.raises(UsageError, match="rate"):
        line(0, rate)
