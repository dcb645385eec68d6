"""The demo product as a data set on disk and as an endless line of parts."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dad_edge.data.demo.defects import KINDS
from dad_edge.data.demo.draw import DrawnPart, draw
from dad_edge.errors import DataError, UsageError, writing
from dad_edge.image.pictures import write_picture
from dad_edge.progress import Progress, silent

SPLITS = ("train", "test", "line")
_BASE = 1 << 40


def part_seed(split: str, seed: int, index: int) -> int:
    """The seed of one part; no two combinations of split, base seed and index share one.

    The splits interleave, index by index, inside a block of 2**40 seeds for each base seed. So a
    part of the line was never trained or tested on, whatever base seeds were used.

    Raises:
        UsageError: the base seed is negative.
    """
    if seed < 0:
        raise UsageError(f"the seed is {seed}, below zero.", "choose a seed of 0 or more")
    return seed * _BASE + len(SPLITS) * index + SPLITS.index(split)


def write_dataset(
    folder: Path,
    *,
    seed: int = 0,
    train: int = 400,
    test_good: int = 60,
    test_per_kind: int = 20,
    size: int = 256,
    progress: Progress = silent,
) -> dict[str, int]:
    """Write the demo product as PNG files in the MVTec layout.

    Args:
        folder: a folder that is empty or does not exist yet.
        seed: base seed, 0 or more.
        train: good parts under ``train/good``.
        test_good: good parts under ``test/good``.
        test_per_kind: defective parts under ``test/<kind>``, masks under ``ground_truth/<kind>``.
        size: side of the pictures in pixels.
        progress: told of every picture.

    Returns:
        Pictures by folder, such as ``{"train/good": 400, "test/good": 60, ...}``.

    Raises:
        DataError: the folder holds something already.
        StorageError: a file cannot be written.
        UsageError: the seed is negative.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise DataError(
                f"{folder} is not empty.", "name a new folder, or remove what is in this one"
            )
    plan = {("train", "good"): train, ("test", "good"): test_good}
    plan.update({("test", kind): test_per_kind for kind in KINDS})
    total, written = sum(plan.values()), 0
    next_index = dict.fromkeys(SPLITS, 0)
    for (split, kind), count in plan.items():
        for number in range(count):
            sample = draw(part_seed(split, seed, next_index[split]), kind, size)
            next_index[split] += 1
            write_picture(folder / split / kind / f"{number:03d}.png", sample.image)
            if kind != "good":
                name = f"{number:03d}_mask.png"
                write_picture(folder / "ground_truth" / kind / name, sample.mask)
            written += 1
            progress(written, total)
    return {f"{split}/{kind}": count for (split, kind), count in plan.items()}


def line(seed: int = 0, defect_rate: float = 0.25, size: int = 256) -> Iterator[DrawnPart]:
    """Parts on the line without end, the same ones each time.

    Args:
        seed: base seed, 0 or more.
        defect_rate: share of defective parts, between 0 and 1.
        size: side of the pictures in pixels.

    Raises:
        UsageError: the seed is negative or the rate is not between 0 and 1.
    """
    if not 0 <= defect_rate <= 1:
        raise UsageError(
            f"the defect rate is {defect_rate}.", "choose a share between 0 and 1, such as 0.25"
        )
    first = part_seed("line", seed, 0)
    fate = np.random.default_rng((first, 3))

    def parts() -> Iterator[DrawnPart]:
        for index in itertools.count():
            kind = KINDS[int(fate.integers(len(KINDS)))]
            defective = bool(fate.random() < defect_rate)
            yield draw(part_seed("line", seed, index), kind if defective else "good", size)

    return parts()
