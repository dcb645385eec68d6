"""Choose the images whose activations calibrate INT8: few, and as different as the set allows.

    python calibration/select_images.py --data DIR --count 64 --out manifest.json
    dad-edge calibrate --data DIR --manifest manifest.json

Farthest-point selection over small grey pictures: the first image is the one nearest the mean, each
further one is the farthest from all that were chosen. The same images give the same manifest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import sha256_of, write_json
from dad_edge.data.layouts import Item, list_items
from dad_edge.errors import DadEdgeError
from dad_edge.preprocess import read_frame, resize

SIDE = 16


def thumbnail(path: Path) -> NDArray[np.float32]:
    """(256,) float32, the image in grey at 16×16 pixels, 0..255."""
    grey = cv2.cvtColor(resize(read_frame(path), SIDE), cv2.COLOR_BGR2GRAY)
    return np.asarray(grey, np.float32).ravel()


def select(features: NDArray[np.float32], count: int) -> list[int]:
    """Rows that cover the set, in the order they were chosen; ties go to the first.

    Args:
        features: (N,D) float32.
        count: rows wanted; all if there are fewer.
    """
    chosen = [int(np.linalg.norm(features - features.mean(axis=0), axis=1).argmin())]
    distance = np.linalg.norm(features - features[chosen[0]], axis=1)
    while len(chosen) < min(count, len(features)):
        distance[chosen] = -1.0
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, np.linalg.norm(features - features[chosen[-1]], axis=1))
    return chosen


def write_selection(root: Path, count: int, out: Path) -> list[Item]:
    """Write the manifest of the chosen images of a data set.

    Raises:
        DataError: no layout fits, or an image cannot be read.
        StorageError: the manifest cannot be written.
    """
    items = list_items(root, "train")
    features = np.stack([thumbnail(item.path) for item in items])
    chosen = [items[index] for index in select(features, count)]
    write_json(out, {"images": {item.name: sha256_of(item.path) for item in chosen}})
    return chosen


def main(arguments: list[str] | None = None) -> int:
    """Entry point; the exit code is that of the error."""
    parser = argparse.ArgumentParser(description="Choose calibration images.")
    parser.add_argument("--data", type=Path, required=True, help="data set or folder of good parts")
    parser.add_argument("--count", type=int, default=64, help="images to choose")
    parser.add_argument("--out", type=Path, required=True, help="manifest to write (JSON)")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error("--count must be at least 1")
    try:
        chosen = write_selection(options.data, options.count, options.out)
    except DadEdgeError as error:
        print(f"error: {error.message}\nnext: {error.next_step}", file=sys.stderr)
        return error.exit_code
    print(f"{len(chosen)} images → {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
