"""Whether the tests would notice: code is changed in one place after the other, and tests run.

    python -m benchmarks.mutation --module dad_edge/gate/judgement.py

Cosmic Ray (`pip install cosmic-ray`) makes the changes, in a copy of the last commit. A mutant
survives if all tests of its module pass. Changes of annotations and of decorators are left out: the
first are never run, and the second are what `mypy` is for. It takes a few seconds a mutant.
"""

from __future__ import annotations

import argparse
import ast
import os
import shlex
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from benchmarks.naming import result_file
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine

ROOT = Path(__file__).parents[1]
TESTS = {
    "dad_edge/gate/judgement.py": "tests/gate/test_judgement.py",
    "dad_edge/signature.py": "tests/test_signature.py",
    "dad_edge/deploy/coverage.py": "tests/calibration",
}
"""Module → the tests that have to notice."""
TIMEOUT_S = 120.0
SETTINGS = """
[cosmic-ray]
module-path = "{module}"
timeout = {timeout}
excluded-modules = []
test-command = "{command}"
[cosmic-ray.distributor]
name = "local"
"""


Place = tuple[int, int]
"""Line from 1 and column from 0."""


def left_out(source: str) -> list[tuple[Place, Place]]:
    """Begin and end of the places that say nothing of tests: annotations and decorators."""
    marked: list[ast.expr | None] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            marked += node.decorator_list
        if isinstance(node, ast.FunctionDef):
            marked.append(node.returns)
        if isinstance(node, ast.arg | ast.AnnAssign):
            marked.append(node.annotation)
    return [
        ((each.lineno, each.col_offset), (each.end_lineno, each.end_col_offset))
        for each in marked
        if each is not None and each.end_lineno and each.end_col_offset is not None
    ]


def changed_lines(diff: str) -> str:
    """What a mutant changed, on one line."""
    lines = [
        line[:1] + " " + line[1:].strip()
        for line in diff.splitlines()
        if line[:1] in "+-" and not line.startswith(("+++", "---"))
    ]
    return " ".join(lines)


def run_module(module: str, tests: str, copy: Path) -> dict[str, Any]:
    """All mutants of a module.

    Args:
        module: path in the project.
        tests: paths in the project, separated by spaces.
        copy: of the project; the module is changed there.

    Returns:
        `mutants`, `killed`, and `survivors`, each with its line and its change.
    """
    pytest = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    settings, session = copy / "mutation.toml", copy / "mutation.sqlite"
    settings.write_text(
        SETTINGS.format(module=module, timeout=TIMEOUT_S, command=shlex.join(pytest))
    )
    session.unlink(missing_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    program = str(Path(sys.executable).with_name("cosmic-ray"))
    files = [settings.name, session.name]
    subprocess.run([program, "init", *files], cwd=copy, env=environment, check=True)
    places = left_out((copy / module).read_text(encoding="utf-8"))
    with closing(sqlite3.connect(session)) as database, database:
        for job, *at in database.execute(
            "select job_id, start_pos_row, start_pos_col from mutation_specs"
        ).fetchall():
            if any(begin <= tuple(at) <= end for begin, end in places):
                database.execute("delete from mutation_specs where job_id = ?", [job])
                database.execute("delete from work_items where job_id = ?", [job])
    subprocess.run([program, "exec", *files], cwd=copy, env=environment, check=True)
    with closing(sqlite3.connect(session)) as database:
        rows = database.execute(
            "select start_pos_row, test_outcome, diff from mutation_specs "
            "join work_results using (job_id) order by start_pos_row"
        ).fetchall()
    survivors = [
        {"line": line, "change": changed_lines(diff)}
        for line, outcome, diff in rows
        if outcome == "SURVIVED"
    ]
    killed = sum(outcome == "KILLED" for _, outcome, _ in rows)
    return {"mutants": len(rows), "killed": killed, "survivors": survivors}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--module", action="append", choices=list(TESTS), help="all if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment = describe_machine()
    path = result_file(options.out, "mutation", environment["device"])
    modules: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, stdout=-1)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        for module in options.module or TESTS:
            modules[module] = run_module(module, TESTS[module], Path(folder))
            found = modules[module]
            print(f"{module}: {found['killed']} of {found['mutants']} killed", file=sys.stderr)
            result = {
                "schema_version": 1,
                "study": "mutation",
                "date": datetime.now(timezone.utc).date().isoformat(),
                "commit": environment["commit"],
                "device": environment["device"],
                "packages": environment["packages"],
                "modules": modules,
            }
            write_json(path, result)
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
