from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_line import FakeLine

from dad_edge.line.sinks.flagged import FOLDER
from dad_edge.line.sinks.store import DATABASE, ResultStore
from dad_edge.web.server import RunningWeb, start_web


@pytest.fixture
def line(tmp_path: Path) -> Iterator[FakeLine]:
    running = FakeLine(tmp_path / "results")
    yield running
    running.close()


@pytest.fixture
def store(tmp_path: Path, line: FakeLine) -> ResultStore:
    return ResultStore(tmp_path / "results" / DATABASE)


@pytest.fixture
def web(tmp_path: Path, line: FakeLine, store: ResultStore) -> Iterator[RunningWeb]:
    reports = tmp_path / "reports"
    reports.mkdir()
    (reports / "report.html").write_text("<!doctype html><title>Report</title><h1>Report</h1>")
    (reports / "secret.txt").write_text("secret")
    (tmp_path / "outside.html").write_text("secret")
    (reports / "link.html").symlink_to(tmp_path / "outside.html")
    running = start_web(line, store, tmp_path / "results" / FOLDER, "127.0.0.1:0", reports=reports)
    yield running
    running.close()
