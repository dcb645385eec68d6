from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest

from benchmarks.compare import main


def _result(p50: float = 10.0) -> dict:
    return {
        "schema_version": 3,
        "environment": {"device": "a CPU, 2 cores"},
        "not_measured": [],
        "rows": [
            {
                "name": "DiffusionAD nano 128 px, λ 100, 200, ONNX Runtime cpu fp32",
                "load": {"loaded": False},
                "latency_ms": {"p50": p50},
                "median_interval_ms": [p50 * 0.99, p50 * 1.01],
                "unstable": None,
            }
        ],
    }


def _run(tmp_path: Path, before: dict, after: dict) -> int:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, result in zip(paths, (before, after), strict=True):
        path.write_text(json.dumps(result))
    return main([str(path) for path in paths])


@pytest.mark.parametrize(
    ("after_ms", "code", "verdict"),
    [(10.6, 0, "same"), (10.0, 0, "same"), (11.5, 1, "slower"), (8.0, 0, "faster")],
)
def test_only_a_difference_beyond_noise_counts(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    after_ms: float,
    code: int,
    verdict: str,
) -> None:
    assert _run(tmp_path, _result(), _result(after_ms)) == code
    assert capsys.readouterr().out.startswith(verdict)


def test_a_busy_or_unstable_run_settles_nothing(tmp_path: Path) -> None:
    busy, unstable = _result(15.0), _result(15.0)
    busy["rows"][0]["load"]["loaded"] = True
    unstable["rows"][0]["unstable"] = "only 3 frames were measured"
    assert _run(tmp_path, _result(), busy) == 3
    assert _run(tmp_path, _result(), unstable) == 3


def test_results_that_do_not_compare_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    elsewhere, other_row, newer = (copy.deepcopy(_result()) for _ in range(3))
    elsewhere["environment"]["device"] = "another CPU"
    other_row["rows"][0]["name"] = "DiffusionAD edge"
    newer["schema_version"] = 99
    for other, why in ((elsewhere, "devices"), (other_row, "no row"), (newer, "schema")):
        assert _run(tmp_path, _result(), other) == 2
        assert why in capsys.readouterr().err
    assert main([str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 2


def test_a_row_that_cannot_be_told_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = _result(), _result()
    for result, ms in ((before, 10.0), (after, 20.0)):
        result["rows"].append(_result(ms)["rows"][0] | {"name": "slow", "unstable": "2 calls"})
    before["rows"].append(before["rows"][0] | {"name": "gone"})
    assert _run(tmp_path, before, after) == 0
    shown = capsys.readouterr().out
    assert "cannot tell" in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["same", "cannot", "missing"]
    after["rows"][0] = _result(15.0)["rows"][0]
    assert _run(tmp_path, before, after) == 1


def test_a_row_that_has_begun_to_fail_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = _result(), _result()
    before["rows"].append(before["rows"][0] | {"name": "other engine"})
    after["not_measured"] = [{"name": "other engine", "reason": "failed: RuntimeError: shape"}]
    assert _run(tmp_path, before, after) == 1
    assert "failed       failed: RuntimeError: shape  other engine" in capsys.readouterr().out
    after["not_measured"] = [{"name": "other engine", "reason": "left out: too slow here"}]
    assert _run(tmp_path, before, after) == 0
