"""Speed of anomaly synthesis on one core: synthetic images a second of processor time.

    python -m benchmarks.synthesis_speed --out benchmarks/results

The images are drawn in one process with one thread of OpenCV. Processor time is counted, so that
other work on the machine changes the figures little. Writes synthesis_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.naming import result_file
from dad_edge.data.synthesis import (
    Synthesizer,
    perlin_mask,
    procedural_texture,
    self_augmented,
    texture_crop,
)
from dad_edge.machine.environment import describe_machine

SIDE = 256


def images_per_s(call: Any, seconds: float) -> float:
    """Calls a second of processor time, after a warm-up."""
    call(0)
    count, start = 0, time.process_time()
    while (spent := time.process_time() - start) < seconds:
        call(count)
        count += 1
    return round(count / spent, 1)


def measure(seconds: float) -> dict[str, dict[str, float]]:
    """Images a second of whole draws, and calls a second of their parts."""
    rng = np.random.default_rng(0)
    frames = [procedural_texture(rng, (SIDE, SIDE)) for _ in range(8)]
    textures = [procedural_texture(rng, (SIDE, SIDE)) for _ in range(8)]
    disc = np.zeros((SIDE, SIDE), np.uint8)
    cv2.circle(disc, (SIDE // 2, SIDE // 2), 90, 1, thickness=cv2.FILLED)
    objects = [disc.astype(bool)] * len(frames)
    kinds = {
        "object, texture folder": Synthesizer(objects, textures),
        "texture, texture folder": Synthesizer(None, textures),
        "object, drawn textures": Synthesizer(objects),
        "texture, drawn textures": Synthesizer(None),
    }
    whole = {
        name: images_per_s(lambda i, s=s: s.draw(rng, frames[i % 8], i % 8), seconds)
        for name, s in kinds.items()
    }
    parts = {
        "perlin mask": lambda i: perlin_mask(rng, (SIDE, SIDE)),
        "self-augmentation": lambda i: self_augmented(rng, frames[i % 8]),
        "drawn texture": lambda i: procedural_texture(rng, (SIDE, SIDE)),
        "texture of a folder": lambda i: texture_crop(rng, textures[i % 8], (SIDE, SIDE)),
    }
    return {
        "images_per_s": whole,
        "calls_per_s": {name: images_per_s(call, seconds) for name, call in parts.items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="processor time of each figure")
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    environment = describe_machine()
    result = {"schema_version": 1, "study": "synthesis", "device": environment["device"]}
    result |= {"date": date.today().isoformat(), "side": SIDE, "opencv": cv2.__version__}
    text = json.dumps(result | measure(options.seconds) | {"environment": environment}, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "synthesis", environment["device"])
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
