"""The files of deploy/, as far as text can be checked: nothing is built or run from them here."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import typer.main

from dad_edge.cli.main import app
from dad_edge.line.config import read_line

if __import__("sys").version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

yaml = pytest.importorskip("yaml")

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "deploy").glob("*.Containerfile"))
LINES = [path for path in FILES if path.name != "triton.Containerfile"]
"""Those whose command is this program's; Triton's is its own."""
KNOWN = {
    "ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "VOLUME", "EXPOSE", "STOPSIGNAL",
    "HEALTHCHECK", "ENTRYPOINT", "CMD",
}  # fmt: skip


def instructions(path: Path) -> list[tuple[str, str]]:
    """Instructions of a container file and what follows them, continued lines joined."""
    text = re.sub(r"^#.*\n", "", path.read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines if line)]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_instructions_are_known_and_nobody_runs_as_root(path: Path) -> None:
    found = instructions(path)
    assert {word for word, _ in found} <= KNOWN
    last_stage = found[max(i for i, (word, _) in enumerate(found) if word == "FROM") :]
    users = [rest for word, rest in last_stage if word == "USER"]
    assert users == ["inspect"]
    assert any("useradd" in rest and "inspect" in rest for word, rest in last_stage)


@pytest.mark.parametrize("path", LINES, ids=lambda path: path.name)
def test_its_command_is_one_of_the_program(path: Path) -> None:
    found = dict(instructions(path))
    assert json.loads(found["ENTRYPOINT"]) == ["dad-edge"]
    name, *options = json.loads(found["CMD"])
    command = typer.main.get_command(app).commands[name]  # type: ignore[attr-defined]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {option for option in options if option.startswith("--")} <= known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_extras_are_there(path: Path) -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    named = re.findall(r"\[([a-z0-9,]+)\]\"", path.read_text())
    assert named
    assert set(named[0].split(",")) <= set(extras)


def test_the_compose_file_fits_its_container() -> None:
    composed = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text())
    line = composed["services"]["line"]
    assert (ROOT / line["build"]["dockerfile"]).is_file()
    found = dict(instructions(ROOT / line["build"]["dockerfile"]))
    assert line["ports"] == [f"{found['EXPOSE']}:{found['EXPOSE']}"]
    assert line["volumes"] == [f"./line:{found['VOLUME']}"]
    assert read_line(ROOT / "deploy" / "line" / "line.toml").name == "demo"
