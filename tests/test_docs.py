"""What the documents say exists: commands, options, exit codes and files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import typer.main

from dad_edge.bundle import Bundle
from dad_edge.cli.main import app
from dad_edge.errors import DadEdgeError

ROOT = Path(__file__).parents[1]
PAGES = tuple(f"docs/{path.name}" for path in sorted((ROOT / "docs").glob("*.md")))
READMES = ("README.md", "CONTRIBUTING.md", "benchmarks/README.md", "calibration/README.md")
DOCUMENTS = (*READMES, *PAGES)

FOLDERS = ("benchmarks", "build_engines", "calibration", "dad_edge")


def _options_of(command: Any) -> set[str]:
    """Options of a command and of the commands below it."""
    own = {option for parameter in command.params for option in parameter.opts}
    return own.union(*(_options_of(below) for below in getattr(command, "commands", {}).values()))


COMMANDS = {
    name: _options_of(command)
    for name, command in typer.main.get_command(app).commands.items()  # type: ignore[attr-defined]
}


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def texts_of(path: Path) -> Iterator[str]:
    """Every text of a module; what an f-string fills in becomes …."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr)
              for part in node.values}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            yield "".join(str(p.value) if isinstance(p, ast.Constant) else "…" for p in node.values)
        elif isinstance(getattr(node, "value", None), str) and id(node) not in inside:
            yield node.value


def commands_in(text: str) -> list[tuple[str, list[str]]]:
    """`dad-edge COMMAND --options`, each up to the end of its line, quotation or table cell."""
    text = re.sub(r"`(\w[\w-]*)( --)", r"`dad-edge \1\2", text)  # the table names no program
    calls = re.findall(r"dad-edge ([a-z][a-z-]*)((?:[ \\|]+[^\s`'#;]+)*)", text)
    return [
        (name, re.findall(r"--[a-z][a-z-]+", rest))
        for name, rest in calls
        if "--" in rest or name in COMMANDS
    ]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_of_the_documents_exists(name: str) -> None:
    lines = "\n".join(line.split("  #")[0] for line in read(name).splitlines())
    found = commands_in(lines)
    assert found or name not in ("README.md", "docs/index.md", "docs/troubleshooting.md")
    for command, options in found:
        assert command in COMMANDS, command
        assert set(options) <= COMMANDS[command], (command, options)


def test_every_command_of_the_messages_exists() -> None:
    found = []
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            found += [(path, *call) for text in texts_of(path) for call in commands_in(text)]
    assert len(found) > 20
    for path, command, options in found:
        assert command in COMMANDS, (path, command)
        assert set(options) <= COMMANDS[command], (path, command, options)


def test_the_table_names_every_command() -> None:
    table = read("README.md").split("## Commands")[1].split("##")[0]
    assert set(re.findall(r"^\| `([a-z-]+)", table, re.MULTILINE)) == set(COMMANDS)


def test_the_table_of_exit_codes_is_that_of_the_errors() -> None:
    table = read("docs/troubleshooting.md").split("## Exit codes")[1].split("\n## ")[0]
    listed = [
        cell for row in re.findall(r"^\| ([\d, ]+) \|", table, re.M) for cell in row.split(",")
    ]
    errors = [DadEdgeError, *DadEdgeError.__subclasses__()]
    codes = {error.exit_code for error in errors} | {0, 129, 130, 143}
    assert sorted(map(int, listed)) == sorted(codes)


def tree() -> Iterator[Path]:
    """The entries of the block under 'Files', each with its folder."""
    folder = Path()
    for line in (
        read("docs/architecture.md").split("## Files\n```\n")[1].split("```")[0].splitlines()
    ):
        assert len(line) <= 100, line
        name = line.split()[0]
        if line.startswith("  "):
            assert len(line.split()) > 1, f"{line} says nothing"
            yield folder / name
        else:
            folder = Path(name)
            if len(line.split()) > 1:
                yield folder


def test_the_tree_names_every_file_once_and_only_files_that_exist() -> None:
    listed = list(tree())
    assert len(listed) == len(set(listed))
    missing = [str(path) for path in listed if not (ROOT / path).exists()]
    assert not missing
    whole = {path for path in listed if (ROOT / path).is_dir()}
    files = {
        path.relative_to(ROOT)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and "results" not in path.parts
    }
    named = {p for p in files if p in listed or whole & set(p.parents)}
    empty = {p for p in files if p.name == "__init__.py" and not (ROOT / p).stat().st_size}
    assert sorted(map(str, files - named - empty)) == []


def test_the_readme_is_short_and_names_every_page() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= 150
    for page in PAGES:
        assert page == "docs/index.md" or f"]({page})" in text, page
        assert f": {Path(page).name}\n" in read("mkdocs.yml"), page


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_the_documents_link_to_exists(name: str) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", read(name)):
        assert (ROOT / name).parent.joinpath(target).exists(), target


@pytest.mark.parametrize("name", ["README.md", "docs/python.md"])
def test_the_python_of_the_documents_runs(
    name: str,
    tiny_bundle: Bundle,
    dark_frame: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    examples = re.findall(r"```python\n(.*?)```", read(name), re.DOTALL)
    monkeypatch.chdir(tiny_bundle.path.parent)
    cv2.imwrite("part.png", dark_frame)
    for code in examples:
        exec(compile(code, name, "exec"), {})
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "good"
    if name == "docs/python.md":
        assert said[1].startswith("NumPy + ONNX Runtime")
        assert said[2].startswith("good 0.")
        assert said[2].endswith("(32, 32)")
