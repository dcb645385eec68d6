from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dad_edge.machine import child

ROOT = Path(__file__).parents[2]
TRAPS = ("cv2", "dis", "json", "linecache", "multiprocessing", "numpy", "subprocess")


@pytest.fixture
def trapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with modules that say so when they are run."""
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(f"open('{name}.ran', 'w'); raise SystemExit(9)")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ran(folder: Path) -> list[str]:
    return sorted(path.stem for path in folder.glob("*.ran"))


@pytest.mark.parametrize("flags", [child._FLAGS, ()], ids=["this Python", "before 3.11"])
def test_a_child_runs_nothing_of_the_current_folder(
    trapped: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    if not flags and sys.version_info >= (3, 13):
        pytest.skip("Python 3.13 imports linecache for -c, and is always given -P")
    monkeypatch.setattr(child, "_FLAGS", flags)
    code = "import cv2, json, numpy; print(json.dumps(sys.argv[1:]))"
    done = subprocess.run(
        child.python_command(code, "a b", "ü"), capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["a b", "ü"]
    assert ran(trapped) == []


def test_a_child_finds_what_this_process_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "ü folder"
    folder.mkdir()
    (folder / "only_here.py").write_text("value = 7")
    monkeypatch.syspath_prepend(folder)
    code = "import only_here, dad_edge; print(only_here.value, dad_edge.__file__)"
    done = subprocess.run(
        child.python_command(code), capture_output=True, text=True, cwd=tmp_path, timeout=60
    )
    assert done.stdout.split() == ["7", str(ROOT / "dad_edge/__init__.py")]


@pytest.mark.parametrize("arguments", [("doctor",), ("demo", "--parts", "1", "--out", "out")])
def test_the_command_runs_nothing_of_the_current_folder(
    trapped: Path, arguments: tuple[str, ...]
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dad_edge", *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert ran(trapped) == []


def test_a_child_starts_where_the_current_folder_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    code = "import cv2; print(cv2.__name__)"
    done = subprocess.run(child.python_command(code), capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "cv2", done.stderr
