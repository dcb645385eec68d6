from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from small_networks import write_images

from calibration.select_images import main
from dad_edge.deploy.coverage import select
from dad_edge.files import sha256_of


def test_selection_takes_one_of_each_kind_before_a_second() -> None:
    kinds = np.repeat(np.array([[0, 0], [10, 0], [0, 10], [9, 9]], np.float32), 5, axis=0)
    spread = kinds + np.random.default_rng(0).normal(0, 0.1, kinds.shape).astype(np.float32)
    assert sorted(index // 5 for index in select(spread, 4)) == [0, 1, 2, 3]
    assert sorted(select(spread, 99)) == list(range(20))


def test_manifest_names_and_hashes_the_odd_one_out(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "good", 6, 100, 120)
    cv2.imwrite(str(folder / "bright.png"), np.full((48, 48, 3), 250, np.uint8))
    out = tmp_path / "manifest.json"
    arguments = ["--data", str(folder), "--count", "2", "--out", str(out)]
    assert main(arguments) == 0
    first = out.read_bytes()
    images = json.loads(first)["images"]
    assert len(images) == 2
    assert images["good/bright.png"] == sha256_of(folder / "bright.png")
    assert main(arguments) == 0
    assert out.read_bytes() == first


def test_a_missing_folder_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path / "no"), "--out", str(tmp_path / "m.json")]) == 3
    assert "does not exist" in capsys.readouterr().err
