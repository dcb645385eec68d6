"""report.json keeps its keys, their order and its values: the same bytes as of earlier versions.

The files `report_<split>.json` beside this one were written by version 0.1.0.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dad_edge.config import ModelConfig
from dad_edge.data.layouts import Split
from dad_edge.report.evaluate import Candidate, evaluate
from dad_edge.report.page import write_report
from dad_edge.report.results import Weights
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.seams import Inspection

SIDE = 32
ENVIRONMENT = {"python": "3.11", "packages": {"dad-edge": "0.1.0"}, "nvidia": [], "jetson": None}
BUNDLE = Weights(form="bundle", name="plate", sha256={"bundle.json": "00" * 32})


class BrightnessInspector(Inspector):
    """Scores a pixel by its brightness: the same binary fractions on every machine."""

    @property
    def backend(self) -> str:
        return "brightness"

    def inspect_batch(self, frames: Sequence[Any]) -> list[Inspection]:
        return [self._inspection(frame) for frame in frames]

    def _inspection(self, frame: np.ndarray) -> Inspection:
        score_map = (frame[..., 0] / 256).astype(np.float32)
        score = float(score_map.max())
        image = np.zeros((3, SIDE, SIDE), np.float32)
        verdict = "defect" if score > self.threshold else "good"
        return Inspection(score, verdict, score_map, frame[..., 0], image, image, {})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Good parts, and parts with a brighter lower half of which one is darker than a good one."""
    root = tmp_path / "plates"
    for number, (name, level) in enumerate(
        [
            ("train/good", 16),
            ("train/good", 32),
            ("test/good", 16),
            ("test/good", 160),
            ("test/dent", 128),
            ("test/dent", 192),
            ("test/straße", 224),
            ("test/straße", 240),
        ]
    ):
        frame = np.full((SIDE, SIDE, 3), 8, np.uint8)
        frame[SIDE // 2 :] = level
        mask = np.zeros((SIDE, SIDE), np.uint8)
        mask[SIDE // 2 :] = 255
        _write(root / name / f"{number}.bmp", frame)
        if not name.endswith("good"):
            _write(root / name.replace("test", "ground_truth") / f"{number}_mask.png", mask)
    return root


def _write(path: Path, picture: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(path.suffix, picture)[1].tobytes())


@pytest.mark.parametrize("split", ["test", "train"])
def test_the_file_is_that_of_before_to_the_byte(
    data: Path, tmp_path: Path, split: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.report.evaluate.describe_machine", lambda: ENVIRONMENT)
    monkeypatch.setattr("dad_edge.report.evaluate.digest_items", lambda _: "11" * 32)
    model = ModelConfig()
    inspector = BrightnessInspector(model, 0.5, None)
    candidate = Candidate(inspector, model, 0.5, 7, BUNDLE, tmp_path)
    page = write_report(evaluate(candidate, data, split), tmp_path / "report")
    written = (page.parent / "report.json").read_text(encoding="utf-8")
    found = re.sub(r'"(seconds|images_per_second)": [0-9.]+', r'"\1": 0', written)
    assert found == Path(__file__).with_name(f"report_{split}.json").read_text(encoding="utf-8")
    json.loads(written)
