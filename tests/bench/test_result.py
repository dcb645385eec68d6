"""A result is the same in types and in the file, today's and those of before."""

from __future__ import annotations

import json
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest
from bench_rows import make_result, make_row

from dad_edge.bench import result as types
from dad_edge.bench.markdown import bench_markdown
from dad_edge.bench.measure import Summary
from dad_edge.bench.result import LayerProfile, Row, read_result, to_json
from dad_edge.errors import DataError
from dad_edge.files import write_json

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
COMMITTED = sorted(RESULTS.glob("bench*_2026-11-25.json"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
def test_a_committed_result_goes_through_the_types_unchanged(path: Path, tmp_path: Path) -> None:
    result = read_result(path)
    assert len(result.rows) == 36
    assert result.layers
    assert result.scaling
    written = tmp_path / "again.json"
    write_json(written, to_json(result))
    assert json.loads(written.read_text()) == json.loads(path.read_text())
    assert written.read_text() == path.read_text(), "the keys have another order"
    assert bench_markdown(result) == path.with_suffix(".md").read_text()


def test_what_a_study_did_not_ask_for_has_no_key(tmp_path: Path) -> None:
    failed = LayerProfile(engine="OpenVINO", reason="it is not installed.")
    short, long = make_result([make_row()]), make_result([make_row()], layers=(failed,))
    assert to_json(short).keys() == to_json(long).keys() - {"layers"}
    assert to_json(long)["layers"] == ({"engine": "OpenVINO", "reason": "it is not installed."},)
    for result in (short, long):
        write_json(tmp_path / "result.json", to_json(result))
        assert read_result(tmp_path / "result.json") == result


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda value: value.update(schema_version=2), "not a bench result of schema 3"),
        (lambda value: value.pop("rows"), "missing required field `rows`"),
        (lambda value: value["rows"][0].update(fps="fast"), r"got `str` - at `\$.rows\[0\].fps`"),
    ],
)
def test_another_file_is_refused_with_the_place(tmp_path: Path, spoil: Any, why: str) -> None:
    value = json.loads(json.dumps(to_json(make_result([make_row()]))))
    spoil(value)
    write_json(tmp_path / "result.json", value)
    with pytest.raises(DataError, match=why):
        read_result(tmp_path / "result.json")


def test_a_row_holds_every_figure_of_a_run() -> None:
    assert {field.name for field in fields(Summary)} < {field.name for field in fields(Row)}


def test_results_cannot_be_changed_after_they_were_measured() -> None:
    kinds = [kind for kind in vars(types).values() if is_dataclass(kind)]
    assert len(kinds) >= 16
    assert all(kind.__dataclass_params__.frozen for kind in kinds)  # type: ignore[union-attr]
