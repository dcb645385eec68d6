"""What the commands from images to a bundle take and refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny import TINY, save_discs
from typer.testing import CliRunner, Result

from dad_edge.cli.learn import _name_of
from dad_edge.cli.main import app
from dad_edge.config import Recipe, TrainConfig
from dad_edge.errors import UsageError
from dad_edge.model.checkpoint import write_recipe


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.parametrize(
    "arguments",
    [
        ("train", "--data", "x", "--size", "huge"),
        ("train", "--data", "x", "--fusion", "mean"),
        ("train", "--data", "x", "--encoder", "resnet"),
        ("train", "--data", "x", "--device", "tpu"),
        ("evaluate", "--data", "x", "--split", "all"),
        ("evaluate", "--data", "x", "--device", "tpu"),
        ("import", "x.pt", "--out", "x", "--fusion", "mean"),
        ("bench", "--study", "none"),
        ("bench", "--predict", "abacus"),
    ],
)
def test_a_choice_that_is_none_names_the_choices(arguments: tuple[str, ...]) -> None:
    refused = invoke(*arguments)
    assert refused.exit_code == 2
    assert arguments[-2] in refused.output
    assert arguments[-1] in refused.output or "should be" in refused.output


def test_a_resumed_run_keeps_its_size_and_its_images(tmp_path: Path) -> None:
    data, other = save_discs(tmp_path / "discs", 5), save_discs(tmp_path / "other", 4)
    write_recipe(tmp_path, Recipe(model=TINY, train=TrainConfig(batch_size=4, epochs=1)))
    out = ("--out", tmp_path / "run", "--device", "cpu")
    recipe = ("--recipe", tmp_path / "recipe.toml")
    assert invoke("train", "--data", data, *out, *recipe).exit_code == 0
    resume = ("train", *out, "--resume", "--epochs", 2)
    refused = invoke(*resume, "--data", data, "--size", "edge")
    assert isinstance(refused.exception, UsageError)
    assert "has the size 'nano', not 'edge'" in str(refused.exception)
    refused = invoke(*resume, "--data", other)
    assert isinstance(refused.exception, UsageError)
    assert "learned from 5 images, and --data holds 4 now" in str(refused.exception)
    assert invoke(*resume, "--data", data, "--size", "nano").exit_code == 0


def test_a_run_is_called_as_the_user_called_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "2026-11-03").mkdir()
    (tmp_path / "parts").symlink_to("2026-11-03")
    assert _name_of(tmp_path / "parts") == "parts"
    monkeypatch.chdir(tmp_path / "2026-11-03")
    assert _name_of(Path(".")) == "2026-11-03"
