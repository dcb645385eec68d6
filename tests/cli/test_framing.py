"""Tiles, padding and the ignore mask go from the options of `train` to the bundle."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from tiny import TINY, save_discs
from typer.testing import CliRunner

from dad_edge.bundle import open_bundle
from dad_edge.cli.main import app
from dad_edge.config import FramingConfig, Recipe, TrainConfig, read_recipe
from dad_edge.errors import UsageError
from dad_edge.image.framing import IGNORE
from dad_edge.model.checkpoint import write_recipe
from dad_edge.runtime.cpu.engine_torch import open_torch_inspector
from dad_edge.runtime.inspector import open_inspector


def run(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, (result.output, result.exception)


def test_framing_reaches_the_bundle(tmp_path: Path) -> None:
    data = save_discs(tmp_path / "discs", 5)
    write_recipe(tmp_path, Recipe(model=TINY, train=TrainConfig(batch_size=4, epochs=1)))
    mask = np.zeros((48, 48), np.uint8)
    mask[:12] = 255
    cv2.imwrite(str(tmp_path / "upper.png"), mask)
    options = ("--tiles", "2x1", "--keep-aspect", "--ignore-mask", tmp_path / "upper.png")
    recipe, folder = tmp_path / "recipe.toml", tmp_path / "run"
    run("train", "--data", data, "--recipe", recipe, "--out", folder, "--device", "cpu", *options)
    run("export", "--checkpoint", folder, "--out", tmp_path / "bundle")

    bundle = open_bundle(tmp_path / "bundle")
    assert bundle.model == replace(TINY, framing=FramingConfig(tiles=(2, 1), keep_aspect=True))
    assert bundle.ignore is not None
    np.testing.assert_array_equal(bundle.ignore, mask > 0)
    frame = np.random.default_rng(0).integers(0, 256, (40, 20, 3), dtype=np.uint8)
    deployed = open_inspector(bundle).inspect(frame)
    trained = open_torch_inspector(folder).inspect(frame)
    np.testing.assert_allclose(deployed.score_map, trained.score_map, atol=1e-4)
    rows = deployed.score_map.shape[0]
    assert not deployed.score_map[: rows // 4 - 1].any()
    assert deployed.score_map[rows // 4 + 1 :].all()

    mask[:] = 0
    mask[:, :6] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    run(
        *("calibrate", "--data", data, "--bundle", tmp_path / "bundle"),
        *("--ignore-mask", tmp_path / "left.png"),
    )
    calibrated = open_bundle(tmp_path / "bundle")
    assert calibrated.ignore is not None
    np.testing.assert_array_equal(calibrated.ignore, mask > 0)
    assert calibrated.thresholds is not None
    assert (tmp_path / "bundle" / IGNORE).is_file()


def test_a_run_keeps_what_it_was_told_of_the_images(tmp_path: Path) -> None:
    data = save_discs(tmp_path / "discs", 5)
    write_recipe(tmp_path, Recipe(model=TINY, train=TrainConfig(batch_size=4, epochs=1)))
    folder = tmp_path / "run"
    source = ("train", "--data", data, "--out", folder, "--device", "cpu")
    run(*source, "--recipe", tmp_path / "recipe.toml", "--foreground", "texture")
    assert read_recipe(folder / "recipe.toml").train.foreground == "texture"
    run(*source, "--resume", "--epochs", 2)
    assert read_recipe(folder / "recipe.toml").train.foreground == "texture"

    changes = ("--resume", "--foreground", "object", "--tiles", "2x2", "--seed", "0")
    refused = CliRunner().invoke(app, [str(argument) for argument in (*source, *changes)])
    assert isinstance(refused.exception, UsageError)
    assert "--foreground, --seed, --tiles would change them" in str(refused.exception)


def test_the_preview_shows_the_views_of_a_frame(tmp_path: Path) -> None:
    data = save_discs(tmp_path / "discs", 4)
    mask = np.zeros((48, 48), np.uint8)
    mask[:, :26] = 255
    cv2.imwrite(str(tmp_path / "left.png"), mask)
    options = ("--tiles", "1x2", "--ignore-mask", tmp_path / "left.png", "--json")
    command = ("preview-anomalies", "--data", data, "--out", tmp_path / "sheet.png", *options)
    result = CliRunner().invoke(app, [str(argument) for argument in command])
    assert result.exit_code == 0, (result.output, result.exception)
    # The left tile of every frame shows nothing that is inspected.
    assert json.loads(result.stdout)["images"] == 4
    assert (tmp_path / "sheet.png").is_file()


def test_long_parts_get_tiles_unless_the_user_or_a_recipe_says_otherwise(tmp_path: Path) -> None:
    for index in range(3):
        frame = np.random.default_rng(index).integers(60, 90, (96, 40, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{index}.png"), frame)

    def views(*options: object) -> int:
        out = tmp_path / "sheets" / "preview.png"
        arguments = ("preview-anomalies", "--data", tmp_path, "--out", out, "--json", *options)
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, (result.output, result.exception)
        return int(json.loads(result.stdout)["images"])

    (tmp_path / "sheets").mkdir()
    assert views() == 2 * 3
    assert views("--tiles", "1x1") == 3
    assert views("--keep-aspect") == 3

    write_recipe(tmp_path, Recipe(model=TINY, train=TrainConfig(batch_size=2, epochs=1)))
    given = ("--recipe", tmp_path / "recipe.toml", "--out", tmp_path / "run", "--device", "cpu")
    run("train", "--data", tmp_path, *given)
    assert read_recipe(tmp_path / "run" / "recipe.toml").model.framing == FramingConfig()
