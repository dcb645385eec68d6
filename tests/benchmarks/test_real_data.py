"""A stage of the study costs its row when it fails, and no path of the machine gets out."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks.naming import slug
from benchmarks.real_data import error_in, result_in, run_stage, stages
from dad_edge.cli.main import app


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_a_stage_gives_its_figures_time_and_memory(tmp_path: Path) -> None:
    printed = {"summary": {"pro": 0.5}, "scores": [1, 2], "context": {"environment": {}, "seed": 0}}
    row = run_stage(python(f"print({json.dumps(printed)!r})"), tmp_path, {})
    assert row["ok"]
    assert row["result"] == {"summary": {"pro": 0.5}, "context": {"seed": 0}}
    assert row["seconds"] > 0
    assert row["peak_memory_mib"] > 1


def test_a_stage_that_fails_says_why_and_hides_paths(tmp_path: Path) -> None:
    code = (
        f"import sys; print('progress\\nerror: {tmp_path}/x.png is damaged.\\nnext: copy it again',"
        "file=sys.stderr); sys.exit(3)"
    )
    row = run_stage(python(code), tmp_path, {str(tmp_path): "plates"})
    assert (row["ok"], row["exit_code"]) == (False, 3)
    assert row["error"] == "error: plates/x.png is damaged.\nnext: copy it again"
    assert "result" not in row


def test_a_stage_that_is_killed_has_no_result_but_a_row(tmp_path: Path) -> None:
    row = run_stage(python("import os; os.kill(os.getpid(), 9)"), tmp_path, {})
    assert (row["ok"], row["exit_code"], row["error"]) == (False, -9, "")


@pytest.mark.parametrize(
    ("stdout", "expected"),
    [
        ('{\n "a": 1\n}\n', {"a": 1}),
        (
            '{"record": "frame"}\n{"record": "summary", "fps": 9.5}\n',
            {"record": "summary", "fps": 9.5},
        ),
        ("", None),
        ("not JSON", None),
    ],
)
def test_results_are_documents_or_the_last_of_json_lines(stdout: str, expected: object) -> None:
    assert result_in(stdout) == expected


def test_an_error_without_the_two_lines_keeps_its_end() -> None:
    assert error_in("x" * 1000 + "ValueError: no").endswith("ValueError: no")


def test_device_names_become_file_names() -> None:
    assert slug("AMD EPYC, 2 cores") == "amd-epyc-2-cores"


@pytest.mark.parametrize("stage", stages(Path("data"), "nano", 1, seed=0, resume=False))
def test_every_option_of_the_study_is_known_to_its_command(stage: str) -> None:
    command, *arguments = stages(Path("data"), "nano", 1, seed=0, resume=False)[stage]
    shown = CliRunner().invoke(app, [command, "--help"]).output
    missing = [option for option in arguments if option.startswith("--") and option not in shown]
    assert missing == []
