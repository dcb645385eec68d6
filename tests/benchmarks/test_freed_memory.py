"""The study of kept memory runs both rows in processes of their own."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import freed_memory


def test_both_ways_are_measured_and_tell_page_faults_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(freed_memory, "WORK", ("training step",))
    arguments = ["--processes", "1", "--seconds", "0.5", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["freed_memory.py", *arguments])
    freed_memory.main()
    (path,) = tmp_path.glob("freed-memory_*.json")
    kept, given_back = json.loads(path.read_text())["rows"]
    assert kept["freed"] == freed_memory.KEPT
    assert kept["median_ms"] > 0
    (one,), (other,) = kept["processes"], given_back["processes"]
    assert one["page_faults_in_all"] < other["page_faults_in_all"]
