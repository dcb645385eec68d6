"""The study of the scene finds what a frame without a part looks like."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from small_networks import write_images

from benchmarks import scene


def test_good_parts_are_valid_and_frames_without_one_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_images(tmp_path / "data/train/good", 8)
    write_images(tmp_path / "data/test/good", 3, 0)
    write_images(tmp_path / "data/test/dent", 2, 1)
    arguments = ["--data", str(tmp_path / "data"), "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["scene.py", *arguments])
    scene.main()
    (path,) = tmp_path.glob("scene_*.json")
    found = json.loads(path.read_text())["data"]["data"]
    assert (found["good_images"], found["good_invalid"]) == (3, 0)
    assert (found["defective_images"], found["defective_invalid"]) == (2, 0)
    shares = found["share_of_frames_invalid"]
    assert {name: share for name, share in shares.items() if share == 1}.keys() >= {
        "black",
        "white",
        "lens cap with camera noise",
        "plain, as bright as the part",
        "the same with camera noise",
    }
    assert shares["light x 1.2"] == shares["light x 0.7"] == 0
