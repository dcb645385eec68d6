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
    child = "import time; time.sleep(60)"
    code = (
        "import subprocess, sys, pathlib\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "child.wait()\n"
    )
    row = run_part(python(code, minutes=0.05))
    assert row["state"] == "failed"
    assert row["reason"] == "ended after its limit of 0.05 minutes"
    assert row["seconds"] < 30
    number = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not running(number):
            break
        time.sleep(0.05)
    assert not running(number)


def running(number: int) -> bool:
    try:
        status = Path(f"/proc/{number}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"


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
