from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from bench_rows import IDLE, make_not_measured, make_result, make_row

from benchmarks.compare import main
from dad_edge.bench.result import StudyResult, to_json
from dad_edge.files import write_json

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"


def _run(tmp_path: Path, before: StudyResult, after: StudyResult) -> int:
    paths = [tmp_path / "a.json", tmp_path / "b.json"]
    for path, result in zip(paths, (before, after), strict=True):
        write_json(path, to_json(result))
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
    assert _run(tmp_path, make_result([make_row()]), make_result([make_row(after_ms)])) == code
    assert capsys.readouterr().out.startswith(verdict)


def test_a_busy_or_unstable_run_settles_nothing(tmp_path: Path) -> None:
    before = make_result([make_row()])
    for row in (
        make_row(15.0, load=replace(IDLE, loaded=True)),
        make_row(15.0, unstable="only 3 frames were measured"),
        make_row(15.0, median_interval_ms=None),
    ):
        assert _run(tmp_path, before, make_result([row])) == 3


def test_results_that_do_not_compare_say_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    result = make_result([make_row()])
    elsewhere = replace(result, environment={"device": "another CPU"})
    other_row = make_result([make_row(name="DiffusionAD edge")])
    newer = replace(result, schema_version=99)
    for other, why in ((elsewhere, "devices"), (other_row, "no row"), (newer, "schema")):
        assert _run(tmp_path, result, other) == 2
        assert why in capsys.readouterr().err
    assert main([str(tmp_path / "a.json"), str(tmp_path / "none.json")]) == 2


def test_a_row_that_cannot_be_told_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slow = [make_row(ms, name="slow", unstable="2 calls") for ms in (10.0, 20.0)]
    before = make_result([make_row(), slow[0], make_row(name="gone")])
    assert _run(tmp_path, before, make_result([make_row(), slow[1]])) == 0
    shown = capsys.readouterr().out
    assert "cannot tell" in shown
    assert [line.split()[0] for line in shown.splitlines()] == ["same", "cannot", "missing"]
    assert _run(tmp_path, before, make_result([make_row(15.0), slow[1]])) == 1


def test_a_row_that_has_begun_to_fail_is_a_regression(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = make_result([make_row(), make_row(name="other engine")])

    def after(reason: str) -> StudyResult:
        lost = make_not_measured(name="other engine", reason=reason)
        return make_result([make_row()], not_measured=(lost,))

    assert _run(tmp_path, before, after("failed: RuntimeError: shape")) == 1
    assert "failed       failed: RuntimeError: shape  other engine" in capsys.readouterr().out
    assert _run(tmp_path, before, after("left out: too slow here")) == 0


def committed(pattern: str) -> Sequence[str]:
    return [str(path) for path in sorted(RESULTS.glob(pattern))]


def test_the_committed_results_of_one_machine_agree(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*committed("bench*_2026-11-25.json")]) == 0
    verdicts = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert len(verdicts) == 36
    assert set(verdicts) == {"same", "cannot"}


def test_a_result_of_an_older_schema_is_refused_and_says_so(
    capsys: pytest.CaptureFixture[str],
) -> None:
    (old,) = committed("bench_*_2026-11-24.json")
    assert json.loads(Path(old).read_text())["schema_version"] < 3
    assert main([old, old]) == 2
    assert "measure again with this version" in capsys.readouterr().err
