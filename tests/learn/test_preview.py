from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from dad_edge.cli.main import app
from dad_edge.config import RECIPES
from dad_edge.data.dataset import TrainingSet
from dad_edge.errors import DataError
from dad_edge.learn.preview import preview, write_preview

RECIPE = RECIPES["nano"]


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("discs")
    rng = np.random.default_rng(0)
    for number in range(6):
        frame = np.full((96, 96, 3), 230, np.uint8)
        cv2.circle(frame, (48, 48), 28, (60, 70, 80), thickness=cv2.FILLED)
        noisy = frame + rng.normal(0, 3, frame.shape)
        cv2.imwrite(str(folder / f"{number}.png"), noisy.clip(0, 255).astype(np.uint8))
    return folder


def test_the_preview_is_what_training_sees(discs: Path) -> None:
    settings = replace(RECIPE.train, batch_size=4)
    images = TrainingSet(discs, RECIPE.model, settings)
    shown = preview(images, "discs", rows=3)
    masks = [*images.batch(0).masks[2:], images.batch(1).masks[2]]
    assert shown.kind == "objects"
    assert shown.images == 6
    assert shown.marked == pytest.approx(np.mean(masks))
    assert np.array_equal(preview(images, "discs", rows=3).sheet, shown.sheet)


def test_the_foreground_of_the_recipe_is_honoured(discs: Path) -> None:
    settings = replace(RECIPE.train, foreground="texture")
    images = TrainingSet(discs, RECIPE.model, settings)
    assert images.foregrounds is None
    assert preview(images, "discs", rows=1).kind == "textures"


def test_a_name_without_a_picture_ending_is_refused(discs: Path, tmp_path: Path) -> None:
    shown = preview(TrainingSet(discs, RECIPE.model, RECIPE.train), "discs", rows=1)
    with pytest.raises(DataError, match="does not name a picture"):
        write_preview(shown, tmp_path / "sheet.txt")


def test_the_command_writes_the_sheet(discs: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "sheet.png"
    done = CliRunner().invoke(
        app, ["preview-anomalies", "--data", str(discs), "--out", str(out), "--json"]
    )
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["kind"] == "objects"
    assert cv2.imread(str(out)) is not None
