from __future__ import annotations

import io
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bench_rows import IDLE, make_row
from rich.console import Console
from tiny import TINY, make_tiny_bundle

from dad_edge.bench import cases, study
from dad_edge.bench import row as row_module
from dad_edge.bench.case import UNTRAINED, Case
from dad_edge.bench.cases import STUDIES, Planned, deployed, plan_rows, sweeps
from dad_edge.bench.markdown import bench_markdown
from dad_edge.bench.pace import Pace, Task
from dad_edge.bench.paper import FPS_ROWS
from dad_edge.bench.result import StudyResult, read_result, to_json
from dad_edge.bench.roof import Peaks
from dad_edge.bench.row import Measured, finish, times_eager
from dad_edge.bench.study import run_study
from dad_edge.bench.table import bench_tables
from dad_edge.bundle import Bundle
from dad_edge.cli import main as cli
from dad_edge.config import RECIPES
from dad_edge.errors import DadEdgeError
from dad_edge.files import write_json
from dad_edge.runtime.inspection import STAGES


def rows_of(bundle: Bundle) -> list[Case]:
    """One case of every kind, small enough for a test."""
    own = Case(model=TINY, bundle=bundle, engine="ONNX Runtime")
    return [
        own,
        replace(own, batch=2, decode=True),
        replace(own, cameras=2),
        replace(own, engine="OpenVINO"),
        Case(model=replace(TINY, method="DRAEM+"), engine="PyTorch eager"),
        Case(model=TINY, bundle=bundle, engine="TensorRT", precision="fp16", device="cuda"),
    ]


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> StudyResult:
    pytest.importorskip("openvino")
    pytest.importorskip("torch")
    bundle = make_tiny_bundle(tmp_path_factory.mktemp("bench") / "tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("tempfile.tempdir", None)
        plan = [Planned(case=case, studies=("main",)) for case in rows_of(bundle)]
        patch.setattr(study, "plan_rows", lambda *given, **named: plan)
        return run_study(bundle, seconds=0.1)


def test_every_row_adds_up(result: StudyResult) -> None:
    assert len(result.rows) == 5
    for row in result.rows:
        assert row.fps == pytest.approx(row.frames / row.wall_s, rel=0.02)
        assert row.share_of_roof == pytest.approx(row.fps / row.roof_fps, rel=0.01)
        assert row.roof_fps == min(row.arithmetic_fps, row.memory_fps)
        assert 0 <= row.overhead_share < 1
    own, batch, cameras, openvino, ablation = result.rows
    assert own.gflop == pytest.approx(2 * 32 * 32 * (2 * 9 + 2 * 6) / 1e9)
    assert batch.gflop == cameras.gflop == openvino.gflop == own.gflop
    assert tuple(own.stages) == STAGES
    assert tuple(batch.stages) == ("decode", *STAGES)
    assert cameras.frames % 2 == 0
    assert cameras.stages == {}
    assert own.weights == "tiny"
    assert ablation.weights == UNTRAINED
    assert ablation.lambdas == ()


def test_rows_are_compared_with_the_same_networks_in_pytorch(result: StudyResult) -> None:
    own, *_, ablation = result.rows
    assert ablation.times_eager == 1
    assert own.times_eager is None
    eager = replace(own, engine="PyTorch eager", fps=own.fps / 4)
    others = [ablation, replace(eager, batch=2), eager]
    assert times_eager(own, others) == pytest.approx(4, rel=1e-4)


def test_what_cannot_run_here_says_why_and_the_others_go_on(result: StudyResult) -> None:
    (row,) = result.not_measured
    assert row.engine == "TensorRT"
    assert "tensorrt" in row.reason or "NVIDIA" in row.reason


def test_a_row_that_fails_costs_itself_alone(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=replace(own, batch=n), studies=("main",)) for n in (1, 2, 3)]
    opened = row_module.open_case

    def breaks(case: Case, frames: Any) -> Any:
        subject = opened(case, frames)
        if case.batch != 2:
            return subject

        def call(index: int) -> dict[str, float]:
            raise RuntimeError("out of memory\nat 0x00")

        return replace(subject, call=call)

    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    monkeypatch.setattr(row_module, "open_case", breaks)
    found = run_study(tiny_bundle, seconds=0.1)
    assert [row.batch for row in found.rows] == [1, 3]
    (lost,) = found.not_measured
    assert lost.reason == "failed: RuntimeError: out of memory"


def test_a_row_expected_to_be_too_slow_is_left_out_and_says_so(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=own, studies=("main",))]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    monkeypatch.setattr(Peaks, "gflop_per_s", lambda *given: 1e-6)
    (row,) = run_study(tiny_bundle, seconds=0.1).not_measured
    assert row.reason.startswith("left out: about 154 s a frame are expected here")


def test_the_result_names_no_folder_of_this_machine(result: StudyResult) -> None:
    text = json.dumps(to_json(result))
    assert result.bundle.name == "tiny"
    assert len(result.bundle.sha256) == 2
    assert "/tmp" not in text
    assert str(Path.home()) + "/" not in text


def test_a_result_is_the_same_after_it_was_written_and_read(
    result: StudyResult, tmp_path: Path
) -> None:
    write_json(tmp_path / "result.json", to_json(result))
    assert read_result(tmp_path / "result.json") == result


def shown(result: StudyResult) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(bench_tables(result))
    return console.export_text()


def test_the_tables_show_every_row_and_the_paper_within_100_columns(
    result: StudyResult,
) -> None:
    text = shown(result)
    assert max(map(len, text.splitlines())) <= 100
    for words in ("OpenVINO fp32", "2 cameras", "batch 2, from JPEG", "DRAEM+ nano"):
        assert words in text
    for row in FPS_ROWS:
        assert f"{row.fps:.2f}" in text
        assert row.method in text
    assert "does not name its GPU" in text
    assert UNTRAINED in text


def test_markdown_has_a_line_for_every_row(result: StudyResult) -> None:
    lines = bench_markdown(result).splitlines()
    table = [line for line in lines if line.startswith("| ") and "px" in line]
    assert len(table) == len(result.rows)
    assert len({line.count("|") for line in table}) == 1
    assert any(line.startswith("- ") and "TensorRT fp16, cuda" in line for line in lines)


def test_a_busy_or_unsteady_run_says_so(result: StudyResult) -> None:
    load = replace(result.load, other_cores=1.5, stolen_share=0.0, cores=2, loaded=True)
    row = replace(
        result.rows[0],
        unstable="the median is known to ±9.0% only",
        throttling=("the CPU throttled 3 times for heat",),
        slowed_share=0.25,
    )
    text = shown(replace(result, load=load, rows=(row,)))
    assert "other processes used 1.50 of 2 cores" in text
    assert "~ marks 1 unstable of 1 rows; the first: the median is known to ±9.0% only" in text
    assert "The machine itself was slowed for 25% of the measured time" in text
    assert "Throttled: the CPU throttled 3 times for heat." in text


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_all_is_every_study_and_no_row_twice(tiny_bundle: Bundle, device: Any) -> None:
    whole = plan_rows("all", tiny_bundle, device=device)
    names = [plan.case.name for plan in whole]
    assert len(names) == len(set(names))
    for name in STUDIES:
        rows = {plan.case.name for plan in plan_rows(name, tiny_bundle, device=device)}
        assert rows == {plan.case.name for plan in whole if name in plan.studies}


def test_the_tables_of_the_paper_have_all_their_rows(tiny_bundle: Bundle) -> None:
    def rows(study: Any) -> set[tuple[Any, ...]]:
        plans = plan_rows(study, tiny_bundle, device="cpu")
        found = (plan.case.configuration() for plan in plans)
        return {(row.method, row.lambdas) for row in found if row.size == "paper"}

    assert rows("table3") == {
        ("SegmentationAD", ()),
        ("DRAEM+", ()),
        ("DenoisingAD", (100, 200)),
        ("DiffusionAD", (100, 200)),
    }
    assert rows("table4") == {
        ("DiffusionAD", (100,)),
        ("DiffusionAD", (200,)),
        ("DiffusionAD", (100, 200)),
        ("norm-guided", (200, 400)),
    }


def test_a_gpu_is_measured_as_the_authors_run_it_and_as_it_is_deployed(
    tiny_bundle: Bundle,
) -> None:
    found = [plan.case for plan in plan_rows("precision", tiny_bundle, device="cuda")]
    on_gpu = {(case.engine, case.precision) for case in found if case.device == "cuda"}
    assert on_gpu >= {
        ("PyTorch eager", "tf32"),
        ("PyTorch eager", "fp16"),
        ("PyTorch eager", "bf16"),
        ("PyTorch compile", "fp16"),
        ("PyTorch CUDA graph", "fp16"),
        ("TensorRT", "fp16"),
        ("TensorRT", "int8"),
        ("TensorRT-RTX", "fp16"),
    }


def test_scaling_varies_one_thing_at_a_time(tiny_bundle: Bundle) -> None:
    own = deployed(tiny_bundle, "cpu")
    found = sweeps(tiny_bundle, "cpu")
    assert [x for x, _ in found["batch"]] == [case.batch for _, case in found["batch"]]
    assert [x for x, _ in found["cameras"]] == [case.cameras for _, case in found["cameras"]]
    assert [x for x, _ in found["lambdas"]] == [len(c.model.lambdas) for _, c in found["lambdas"]]
    assert [x for x, _ in found["image size"]] == [32.0**2, 64.0**2]
    for places in found.values():
        assert own.name in [case.name for _, case in places]


def test_a_named_engine_is_measured_alone(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dad_edge.deploy.build import build, find_target

    name = build(tiny_bundle, "fp32", find_target("onnxruntime")).name
    (plan,) = plan_rows("main", tiny_bundle, engine=name)
    assert plan.case.built == name
    monkeypatch.setattr(cases, "list_engines", lambda bundle: [])
    found = run_study(tiny_bundle, engine=name, seconds=0.1)
    assert [row.engine for row in found.rows] == ["ONNX Runtime"]


def test_the_command_prints_json_and_writes_the_same_file(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=own, studies=("main",))]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    out = tmp_path / "results" / "bench.json"
    arguments = ["bench", "--bundle", str(tiny_bundle.path), "--seconds", "0.1", "--json"]
    monkeypatch.setattr("sys.argv", ["dad-edge", *arguments, "--out", str(out)])
    cli.main()
    seen = capsys.readouterr()
    assert json.loads(seen.out) == json.loads(out.read_text())
    assert "Beside the paper" in seen.err
    assert f"bundle: {tiny_bundle.path} (--bundle)" in seen.err
    assert out.with_suffix(".md").read_text().startswith("# Measured on ")


def test_a_result_that_cannot_be_written_is_still_shown(
    tiny_bundle: Bundle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=own, studies=("main",))]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    (tmp_path / "file").touch()
    arguments = ["bench", "--bundle", str(tiny_bundle.path), "--seconds", "0.1"]
    out = str(tmp_path / "file" / "bench.json")
    monkeypatch.setattr("sys.argv", ["dad-edge", *arguments, "--out", out, "--json"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    seen = capsys.readouterr()
    assert stop.value.code == 7
    assert "a file is in the way" in seen.err
    assert json.loads(seen.out)["study"] == "main"


def test_the_sizes_beside_a_bundle_are_the_other_recipes(tiny_bundle: Bundle) -> None:
    sizes = {plan.case.model.size for plan in plan_rows("main", tiny_bundle, device="cpu")}
    assert sizes == set(RECIPES)


def test_a_study_whose_time_is_over_lists_what_is_left(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=replace(own, batch=n), studies=("main",)) for n in (1, 2)]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    passed_s = iter([0.0, 1.0, *[study.LIMIT_S + 1] * 10])
    monkeypatch.setattr(study, "time", SimpleNamespace(perf_counter=lambda: next(passed_s)))
    found = run_study(tiny_bundle, seconds=0.1)
    assert [row.batch for row in found.rows] == [1]
    assert found.not_measured[0].reason.startswith("left out: the study's")


def test_networks_whose_tensors_stay_on_the_device_run_in_every_precision() -> None:
    from dad_edge.bench.subject import _resident_networks

    ran = []
    for precision in ("fp32", "tf32", "bf16"):
        for method in ("DiffusionAD", "SegmentationAD"):
            model = replace(TINY, method=method)  # type: ignore[arg-type]
            case = Case(model=model, engine="PyTorch eager", precision=precision)  # type: ignore[arg-type]
            run = _resident_networks(case)
            assert run is not None
            run()
            ran.append(case.name)
    assert len(set(ran)) == 6


def test_without_pytorch_the_bundle_is_measured_and_the_rest_says_why(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    others = [replace(own, bundle=None), replace(own, engine="PyTorch eager")]
    plan = [Planned(case=case, studies=("main",)) for case in (own, *others)]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    monkeypatch.setitem(sys.modules, "torch", None)
    found = run_study(tiny_bundle, seconds=0.1)
    assert [row.engine for row in found.rows] == ["ONNX Runtime"]
    for row in found.not_measured:
        assert row.reason.startswith("package 'torch' is not installed")
        assert row.next == "pip install 'dad-edge[train]'"
    assert len(found.not_measured) == 2


def test_the_bundles_own_networks_run_its_weights_in_every_study(tiny_bundle: Bundle) -> None:
    own = RECIPES["nano"].model
    bundle = replace(tiny_bundle, manifest=replace(tiny_bundle.manifest, model=own))
    rows = plan_rows("table4", bundle, device="cpu")
    deployed_rows = [plan.case for plan in rows if plan.case.engine != "PyTorch eager"]
    assert [case.bundle is bundle for case in deployed_rows if case.model == own] == [True]
    assert [case.bundle for case in deployed_rows if case.model != own] == [None] * 3


def test_a_row_measured_while_the_machine_was_slowed_cannot_be_quoted() -> None:
    seconds = iter([0.002] + [0.001] * 5)
    pace, peaks = Pace([Task("work", 0.9, lambda: next(seconds))]), Peaks(0.01)
    slow = pace.read()
    for _ in range(5):
        quick = pace.read()
    row = make_row(gflop=None)
    found = finish(Measured(row=row, speed=slow), peaks, pace)
    assert found.machine_speed == {"work": 0.5}
    assert "the machine itself was slower" in str(found.unstable)
    shaky = finish(Measured(row=replace(row, unstable="2 calls"), speed=slow), peaks, pace)
    assert shaky.unstable == "2 calls"
    assert finish(Measured(row=row, speed=quick), peaks, pace).unstable is None
    assert finish(Measured(row=row, speed=None), peaks, pace) == row


@pytest.mark.parametrize(
    ("again", "visits", "fps"),
    [
        ("steady", [1, 2, 1, 2], 2.0),
        ("unstable", [1, 2, 1, 2, 1], 3.0),
        ("fails", [1, 2, 1, 2, 1], 1.0),
    ],
)
def test_a_row_is_visited_twice_and_once_more_if_it_is_not_steady(
    tiny_bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    again: str,
    visits: list[int],
    fps: float,
) -> None:
    steady = make_row(fps=2.0)
    spoiled = make_row(
        unstable="the machine itself was slowed",
        slowed_share=0.9,
        fps=1.0,
        load=replace(IDLE, loaded=True),
        throttling=("heat",),
    )
    visited: list[int] = []

    def measure_case(case: Case, *given: Any) -> Measured:
        visited.append(case.batch)
        if case.batch == 2:
            row = steady
        elif visited.count(1) == 1:
            row = spoiled
        elif again == "fails":
            raise DadEdgeError("out of memory.", "use a smaller size")
        elif again == "steady":
            row = steady
        else:
            row = replace(spoiled, fps=3.0, load=IDLE, throttling=("power",))
        return Measured(row=replace(row, batch=case.batch, gflop=None), speed=None)

    own = Case(model=TINY, bundle=tiny_bundle, engine="ONNX Runtime")
    plan = [Planned(case=replace(own, batch=n), studies=("main",)) for n in (1, 2)]
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: plan)
    monkeypatch.setattr(study, "measure_case", measure_case)
    found = run_study(tiny_bundle, seconds=0.1)
    assert visited == visits
    assert [row.fps for row in found.rows] == [fps, 2.0]
    first = found.rows[0]
    assert first.load.loaded
    assert "heat" in first.throttling
    assert ("power" in first.throttling) == (again == "unstable")
    assert ("again: out of memory." in str(first.unstable)) == (again == "fails")
    assert found.not_measured == ()
