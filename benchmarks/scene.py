"""What the check of the scene says of real parts, and of frames without one.

    python -m benchmarks.scene --data DIR --data DIR ... --out benchmarks/results

The range comes from the training images of each data set, as `dad-edge calibrate` finds it. Counted
are the test images that it would call invalid, which should be none, and what it calls invalid of
frames made from good test images. Writes scene_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.config import GOOD
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.files import write_json
from dad_edge.image.preprocess import read_frame, to_image
from dad_edge.image.scene import Look, Scene, look_at, scene_around, why_outside
from dad_edge.machine.environment import describe_machine

SIDE = 256
MADE_FROM = 10
"""Good test images that other frames are made from."""
SMALL_SETS = (5, 10, 20)
"""Numbers of images that small calibrations are tried with."""
TRIES = 200

Frame = NDArray[np.uint8]


def _light(gain: float) -> Callable[[Frame], Frame]:
    return lambda frame: np.clip(frame * float(gain), 0, 255).astype(np.uint8)


def _blur(share: float) -> Callable[[Frame], Frame]:
    def blurred(frame: Frame) -> Frame:
        small = cv2.resize(frame, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        return np.asarray(cv2.GaussianBlur(small, (0, 0), share * SIDE), np.uint8)

    return blurred


def _noisy(level: float | None, deviation: float) -> Callable[[Frame], Frame]:
    def noisy(frame: Frame) -> Frame:
        mean = frame.mean() if level is None else level
        noise = np.random.default_rng(0).normal(mean, deviation, frame.shape)
        return np.clip(noise, 0, 255).astype(np.uint8)

    return noisy


FRAMES: dict[str, Callable[[Frame], Frame]] = {
    "black": np.zeros_like,
    "white": lambda frame: np.full_like(frame, 255),
    "lens cap with camera noise": _noisy(4, 3),
    "plain grey": lambda frame: np.full_like(frame, 128),
    "plain, as bright as the part": lambda frame: np.full_like(frame, round(frame.mean())),
    "the same with camera noise": _noisy(None, 5),
    "noise alone": _noisy(128, 74),
    **{
        f"light x {gain:g}": _light(gain)
        for gain in (0.1, 0.25, 0.5, 0.7, 0.9, 1.1, 1.2, 1.5, 2, 4)
    },
    **{f"blur of {share:.0%} of the side": _blur(share) for share in (0.01, 0.03, 0.1)},
}
"""What is made of a good frame."""


def look(frame: Frame) -> Look:
    """What the check measures of a frame."""
    return look_at(to_image(frame, SIDE, (0, 1)), None, (0, 1))


def share_outside(looks: list[Look], scene: Scene) -> float:
    """Share of frames that are invalid."""
    return sum(why_outside(each, scene) is not None for each in looks) / len(looks)


def measure(root: Path) -> dict[str, Any]:
    """The counts of one data set."""
    train = [look(read_frame(item.path)) for item in list_items(root, "train")]
    test = list_items(root, "test")
    good = [item for item in test if item.kind == GOOD]
    looks = {
        "good": [look(read_frame(item.path)) for item in good],
        "defective": [look(read_frame(item.path)) for item in test if item.kind != GOOD],
    }
    scene = scene_around(train)
    return {
        "scene": {"brightness": scene.brightness, "contrast": scene.contrast},
        "train_images": len(train),
        **{f"{kind}_images": len(each) for kind, each in looks.items()},
        **{
            f"{kind}_invalid": round(share_outside(each, scene) * len(each))
            for kind, each in looks.items()
        },
        "share_invalid_after_few_images": {
            str(count): {kind: _after_few(train, each, count) for kind, each in looks.items()}
            for count in SMALL_SETS
        },
        "share_of_frames_invalid": _made(good, scene),
    }


def _after_few(train: list[Look], looks: list[Look], count: int) -> float:
    """Mean share of invalid frames where the range comes from so many images, drawn by chance."""
    rng = np.random.default_rng(0)
    picked = [rng.choice(len(train), min(count, len(train)), replace=False) for _ in range(TRIES)]
    scenes = [scene_around([train[index] for index in indices]) for indices in picked]
    return round(float(np.mean([share_outside(looks, scene) for scene in scenes])), 5)


def _made(good: list[Item], scene: Scene) -> dict[str, float]:
    frames = [read_frame(item.path) for item in good[:: max(1, len(good) // MADE_FROM)]]
    return {
        name: round(share_outside([look(make(frame)) for frame in frames], scene), 3)
        for name, make in FRAMES.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, action="append", required=True)
    parser.add_argument("--out", type=Path, required=True, help="folder for the result")
    arguments = parser.parse_args()
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "scene",
        "environment": environment,
        "data": {root.resolve().name: measure(root) for root in arguments.data},
    }
    print(json.dumps(result["data"], indent=1))
    write_json(result_file(arguments.out, "scene", environment["device"]), result)


if __name__ == "__main__":
    main()
