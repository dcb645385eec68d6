from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import make_tiny_bundle
from rich.console import Console

from dad_edge import cli
from dad_edge.bench import (
    FEWEST_FRAMES,
    measure,
    median_interval,
    peak_gflops,
    run_bench,
    stage_gflop,
    why_unsteady,
)
from dad_edge.bench_table import bench_tables
from dad_edge.bundle import Bundle
from dad_edge.paper import FPS_ROWS
from dad_edge.runtime.inspection import STAGES
from dad_edge.runtime.inspector import open_inspector


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> dict:
    return run_bench(make_tiny_bundle(tmp_path_factory.mktemp("bench") / "tiny"), seconds=0.2)


def test_the_row_adds_up(result: dict) -> None:
    (row,) = result["rows"]
    assert row["fps"] == pytest.approx(row["frames"] / row["wall_s"], rel=0.01)
    assert row["frames"] >= FEWEST_FRAMES
    assert 0.2 <= row["wall_s"] < 2
    assert tuple(row["stages"]) == STAGES
    assert 0.8 < sum(stage["share"] for stage in row["stages"].values()) <= 1
    latency = row["latency_ms"]
    assert latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"]
    assert row["gflop"] == pytest.approx(2 * 32 * 32 * (2 * 9 + 2 * 6) / 1e9)
    assert row["share_of_roof"] == pytest.approx(row["fps"] / row["roof_fps"], rel=0.05)
    assert 0 <= row["overhead_share"] < 0.2


def test_the_result_names_no_folder_of_this_machine(result: dict) -> None:
    text = json.dumps(result)
    assert result["bundle"]["name"] == "tiny"
    assert len(result["bundle"]["sha256"]) == 2
    assert "/tmp" not in text
    assert str(Path.home()) + "/" not in text


def test_the_table_shows_the_paper_and_fits_a_terminal(result: dict) -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(bench_tables(result))
    text = console.export_text()
    for row in FPS_ROWS:
        assert f"{row.fps:.2f}" in text
    assert "does not name its GPU" in text
    assert all(row.method in text for row in FPS_ROWS)


def test_a_busy_or_unsteady_run_says_so(result: dict) -> None:
    load = result["load"] | {"other_cores": 1.5, "stolen_share": 0.0, "cores": 2, "loaded": True}
    row = result["rows"][0] | {"unstable": "the median is known to ±9.0% only"}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(bench_tables(result | {"load": load, "rows": [row]}))
    text = console.export_text()
    assert "other processes used 1.50 of 2 cores" in text
    assert "Unstable: the median is known to ±9.0% only" in text


def test_measuring_reports_progress_and_counts_every_frame(
    tiny_bundle: Bundle, dark_frame: np.ndarray
) -> None:
    inspector = open_inspector(tiny_bundle, threads=1)
    samples = measure(inspector, [dark_frame], 0.05)
    assert len(samples.latency_ms) == len(samples.stage_ms)
    assert samples.warm_up_frames >= FEWEST_FRAMES
    assert sum(samples.latency_ms) / 1e3 <= samples.wall_s


def test_the_median_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(400):
        interval = median_interval(rng.exponential(size=60).tolist())
        assert interval is not None
        covered += interval[0] <= np.log(2) <= interval[1]
    assert 0.92 <= covered / 400 <= 0.99


def test_more_frames_narrow_the_median_interval() -> None:
    values = np.random.default_rng(1).normal(10, 1, 3000).tolist()
    widths = []
    for count in (30, 300, 3000):
        interval = median_interval(values[:count])
        assert interval is not None
        widths.append(interval[1] - interval[0])
    assert all(b < a for a, b in pairwise(widths))


@pytest.mark.parametrize(
    ("latency_ms", "why"),
    [
        ([10.0] * 3, "only 3 frames were measured"),
        ([5.0, 15.0] * 50, "the median is known to ±50.0% only"),
        (np.linspace(9.5, 10.5, 2000).tolist(), "the second half of the run was 5% slower"),
        (np.linspace(10.5, 9.5, 2000).tolist(), "the second half of the run was 5% faster"),
        ([10.0] * 50, None),
    ],
)
def test_only_steady_figures_can_be_quoted(latency_ms: list[float], why: str | None) -> None:
    assert why_unsteady(latency_ms) == why


def test_a_graph_of_unknown_cost_has_no_roof(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hidden(path: Path, rows: int) -> float:
        raise ValueError("shape")

    monkeypatch.setattr("dad_edge.bench.count_gflop", hidden)
    assert stage_gflop(tiny_bundle) == {}


def test_the_peak_is_a_rate_this_machine_can_reach() -> None:
    assert 0.1 < peak_gflops(threads=1, seconds=0.05) < 10_000


def test_the_command_prints_json_and_writes_the_same_file(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "results" / "bench.json"
    arguments = ["bench", "--bundle", str(tiny_bundle.path), "--seconds", "0.1", "--json"]
    monkeypatch.setattr("sys.argv", ["dad-edge", *arguments, "--out", str(out)])
    cli.main()
    shown = capsys.readouterr()
    assert json.loads(shown.out) == json.loads(out.read_text())
    assert "Beside the paper" in shown.err
    assert f"bundle: {tiny_bundle.path} (--bundle)" in shown.err


def test_a_result_that_cannot_be_written_is_still_shown(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    arguments = ["bench", "--bundle", str(tiny_bundle.path), "--seconds", "0.1"]
    out = str(tmp_path / "file" / "bench.json")
    monkeypatch.setattr("sys.argv", ["dad-edge", *arguments, "--out", out, "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    shown = capsys.readouterr()
    assert stop.value.code == 7
    assert "a file is in the way" in shown.err
    assert json.loads(shown.out)["study"] == "bench"
