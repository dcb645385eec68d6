"""The page of the demo line, as a user starts and ends it."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from typer.testing import CliRunner

from dad_edge.cli.main import app


def test_the_page_of_the_demo_line(tmp_path: Path) -> None:
    options = ["--web", "127.0.0.1:0", "--out", str(tmp_path / "out")]
    command = [sys.executable, "-m", "dad_edge", "demo", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        assert process.stderr is not None
        said = iter(process.stderr)
        url = next(found[1] for line in said if (found := re.search(r"page: (http\S+)", line)))
        assert next(line for line in said if "demo:// is read" in line)
        state = httpx.get(f"{url}api/line", timeout=60).json()
        assert [camera["name"] for camera in state["cameras"]] == ["demo"]
        assert state["cameras"][0]["class_name"] == "demo flange"
        process.send_signal(signal.SIGTERM)
        rest = "".join(said)
        assert process.wait(60) == 0
    assert "line stopped: a signal came" in rest
    assert (tmp_path / "out" / "results.jsonl").is_file()


def test_a_page_that_goes_on_has_no_result_to_print() -> None:
    done = CliRunner().invoke(app, ["demo", "--web", "127.0.0.1:0", "--json"])
    assert done.exit_code != 0
    assert "leave --json out" in f"{done.exception} {getattr(done.exception, 'next_step', '')}"
