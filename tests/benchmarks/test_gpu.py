"""`make gpu`: every part runs in a process of its own, within its limit, or says why it cannot."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import typer

from benchmarks import gpu
from benchmarks.gpu import Part, parts, run_part
from dad_edge.cli.main import app

NO_GPU = {"gpus": [], "reason": "no NVIDIA driver: libcuda.so.1 is not here"}
ONE_GPU = {"gpus": [{"name": "H100", "compute_capability": "9.0"}], "reason": None}


def python(code: str, minutes: float = 1.0) -> Part:
    return Part("part", [sys.executable, "-c", code], minutes)


def test_json_of_a_part_is_its_result() -> None:
    row = run_part(python("print('{\"fps\": 3}')"))
    assert (row["state"], row["result"]) == ("done", {"fps": 3})
    row = run_part(python("print('x' * 9000)"))
    assert (row["state"], len(row["output"])) == ("done", gpu.OUTPUT_CHARACTERS)


def test_a_part_that_fails_says_why_and_keeps_its_output() -> None:
    said = "import sys; print('begun'); sys.exit('error: no memory.\\nnext: close programs')"
    row = run_part(python(said))
    assert (row["state"], row["exit_code"]) == ("failed", 1)
    assert row["reason"] == "error: no memory.\nnext: close programs"
    assert row["output"] == "begun\n"


def test_at_its_limit_a_part_ends_with_the_processes_it_started(tmp_path: Path) -> None:
    told = tmp_path / "child"
    code = f"sleep 1000 & echo $! > {told}.new && mv {told}.new {told}; wait"
    row = run_part(Part("part", ["sh", "-c", code], minutes=0.05))
    assert row["state"] == "failed"
    assert row["reason"] == "ended after its limit of 0.05 minutes"
    number = int(told.read_text())
    while running(number):  # the test's own limit ends this if it stays
        time.sleep(0.05)


def running(number: int) -> bool:
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


STRICT_IN_VAIN = """
import warnings

import pytest
import tiny  # lies in tests/support

warnings.warn("an old name of someone's torch", DeprecationWarning)


@pytest.mark.gpu
@pytest.mark.timeout(5)
def test_runs() -> None:
    assert tiny.TINY.image_size == 32


def test_needs_no_gpu() -> None:
    raise AssertionError("is left out")
"""


def run_tests(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run a test module as on a machine without the plugins of the project's own options."""
    path = folder / "test_of_someone.py"
    path.write_text(STRICT_IN_VAIN)
    absent = ["-p", "no:timeout", "-p", "no:xdist", "-p", "no:hypothesispytest"]
    command = [sys.executable, "-m", "pytest", *options, *absent, "-c", "pyproject.toml", path]
    environment = {**os.environ, "PYTHONPATH": str(gpu.ROOT)}
    return subprocess.run(command, cwd=gpu.ROOT, env=environment, capture_output=True, text=True)


def test_gpu_tests_start_without_the_plugins_and_despite_the_warnings_of_a_gpu_machine(
    tmp_path: Path,
) -> None:
    done = run_tests(tmp_path, *gpu.TEST_OPTIONS)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed, 1 deselected" in done.stdout
    assert "DeprecationWarning: an old name" in done.stdout
    assert run_tests(tmp_path, "-m", "gpu").returncode != 0, "the project's own options would do"


def test_the_part_of_the_gpu_tests_runs_all_of_them_with_these_options(tmp_path: Path) -> None:
    (part,) = (part for part in parts(None, 9, tmp_path) if part.name == "tests")
    assert part.command == [sys.executable, "-m", "pytest", gpu.GPU_TESTS, *gpu.TEST_OPTIONS]
    marked = [
        path.relative_to(gpu.ROOT)
        for path in (gpu.ROOT / "tests").rglob("test_*.py")
        if "mark.gpu" in path.read_text(encoding="utf-8") and path != Path(__file__)
    ]
    assert len(marked) >= 3
    assert [path for path in marked if not path.is_relative_to(gpu.GPU_TESTS)] == []


def test_a_program_that_is_not_there_is_named() -> None:
    row = run_part(Part("part", ["/no/such/program"], 1))
    assert row == {"state": "cannot run", "reason": "/no/such/program: No such file or directory"}
    assert run_part(Part("part", ["true"], 1, "no GPU"))["reason"] == "no GPU"


def test_without_a_gpu_every_part_but_those_that_need_none_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "describe_nvidia", lambda: NO_GPU)
    monkeypatch.setattr(gpu, "_missing", lambda *modules: None)
    able = [part.name for part in parts(tmp_path, 9, tmp_path) if part.obstacle is None]
    assert able == ["doctor", "build tensorrt-rtx fp16"]


def test_packages_and_tools_that_are_missing_are_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(gpu, "describe_nvidia", lambda: ONE_GPU)
    monkeypatch.setattr(gpu, "SANITIZER", "no-such-sanitizer")
    absent = {"torch", "tensorrt"}
    monkeypatch.setattr(
        gpu, "_missing", lambda *modules: next((f"no {m}" for m in modules if m in absent), None)
    )
    found = {part.name: part.obstacle for part in parts(None, 9, tmp_path)}
    assert found["tests"] == "no torch"
    assert found["build tensorrt int8"] == found["verify"] == "no tensorrt"
    assert found["racecheck of the kernels"] == "no-such-sanitizer is not in PATH"
    assert found["kernels"] is None
    absent.clear()
    found = {part.name: part.obstacle for part in parts(None, 9, tmp_path)}
    assert found["training"] == found["evaluation"] == "no data set was named: --data DIR"


def test_a_python_without_the_core_is_told_in_two_lines() -> None:
    code = "import runpy, sys; sys.modules['cv2'] = None; runpy.run_module('benchmarks.gpu')"
    environment = {**os.environ, "PYTHONPATH": str(gpu.ROOT)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 5
    error, next_step = done.stderr.splitlines()
    assert error.startswith("error: package 'cv2' is not installed in ")
    assert next_step.startswith("next: name a Python that has")


def test_a_package_within_a_package_that_is_missing_is_named() -> None:
    assert gpu._missing("json", "no_such_package.inner") is not None
    assert gpu._missing("json", "os.path") is None


@pytest.mark.parametrize("found", [NO_GPU, ONE_GPU], ids=["no GPU", "one GPU"])
def test_the_command_line_knows_every_option(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, found: dict[str, Any]
) -> None:
    monkeypatch.setattr(gpu, "describe_nvidia", lambda: found)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    checked = 0
    for part in parts(tmp_path, 9, tmp_path):
        if part.command[:3] == [sys.executable, "-m", "dad_edge"]:
            name, *arguments = part.command[3:]
            commands[name].make_context(name, arguments)
            checked += 1
    assert checked >= 10


def test_the_result_holds_every_part_and_failure_is_an_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = [python("print('{}')"), Part("second", ["true"], 1, "no GPU")]
    monkeypatch.setattr(gpu, "parts", lambda *arguments: planned)
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--out", str(tmp_path / "out")])
    assert gpu.main() == 0
    assert capsys.readouterr().out == f"{tmp_path / 'out' / 'gpu.json'}{os.linesep}"
    planned.append(Part("third", [sys.executable, "-c", "1 / 0"], 1))
    assert gpu.main() == 1
    rows = json.loads((tmp_path / "out" / "gpu.json").read_text())["parts"]
    assert [row["state"] for row in rows.values()] == ["done", "cannot run", "failed"]
    assert "ZeroDivisionError" in rows["third"]["reason"]
    assert (tmp_path / "out" / "bundle" / "bundle.json").is_file()
