"""Choose the images whose activations calibrate INT8 and write them down, to look at and to edit.

    python calibration/select_images.py --data DIR --count 64 --out manifest.json
    dad-edge calibrate --data DIR --manifest manifest.json

The choice is the one that calibration makes by itself (`dad_edge.deploy.coverage`): few images,
and as different as the set allows. The same images give the same manifest.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.deploy.coverage import choose
from dad_edge.errors import DadEdgeError
from dad_edge.files import sha256_of, write_json


def write_selection(root: Path, count: int, out: Path) -> list[Item]:
    """Write the manifest of the chosen images of a data set.

    Raises:
        DataError: no layout fits, or an image cannot be read.
        StorageError: the manifest cannot be written.
    """
    chosen = choose(list_items(root, "train"), count)
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
