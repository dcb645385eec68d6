from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import cv2
import pytest
from bench_rows import make_result, make_row

pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra 'test')")

from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from benchmarks.plot import (
    COLOURS,
    DOTS_PER_INCH,
    ENGINES,
    HEIGHT_INCHES,
    WIDTH_INCHES,
    Accuracy,
    Evaluated,
    accuracies_in,
    draw_plot,
    main,
    paper_points,
    points_of,
)
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.result import read_result, to_json

RESULTS = Path(__file__).parents[2] / "benchmarks" / "results"
RESULT = make_result(
    [
        make_row(30.0),
        make_row(44.0, precision="int8", name="nano int8"),
        make_row(30.0, weights=UNTRAINED, name="nano untrained"),
        make_row(60.0, batch=2),
    ]
)


def report(backend: str = "ONNX Runtime 1.32.0 CPU fp32", auroc: float = 0.98) -> dict:
    """What matters here of an evaluation's report."""
    return {
        "summary": {"image_auroc": auroc},
        "context": {
            "bundle": {"sha256": {"denoiser.onnx": "d", "segmenter.onnx": "s"}},
            "backend": f"NumPy + {backend}, 2 threads",
            "data": {"name": "flanges"},
        },
    }


def test_accuracies_are_found_wherever_an_evaluation_lies() -> None:
    of_run = {"summary": {"image_auroc": 0.9}, "context": {"checkpoint": {"sha256": {}}}}
    found = dict(accuracies_in({"stages": [{"result": report()}, of_run]}))
    assert found == {Evaluated("d", "s", "ONNX Runtime", "fp32"): Accuracy(0.98, "flanges")}


@pytest.mark.parametrize("engine", ENGINES)
def test_an_evaluation_names_its_runtime_and_precision(engine: str) -> None:
    ((found, _),) = accuracies_in(report(f"{engine} 10.3 int8"))
    assert (found.engine, found.precision) == (engine, "int8")


def test_a_row_without_accuracy_is_left_out_with_its_reason() -> None:
    points, left_out = points_of(RESULT, dict(accuracies_in(report())))
    (point,) = points
    assert (point.latency_ms, point.image_auroc, point.colour) == (30.0, 98.0, COLOURS["nano"])
    assert point.label == "ONNX Runtime fp32"
    assert point.series == "nano, measured here, on flanges"
    assert left_out == [
        "nano int8: no evaluation of this bundle in ONNX Runtime int8 was given",
        "nano untrained: untrained, so it has no accuracy",
    ]


def test_int8_counts_for_its_own_runtime_only_and_fp32_for_all() -> None:
    rows = [make_row(engine="OpenVINO", precision=precision) for precision in ("fp32", "int8")]
    reports = [report(), report("ONNX Runtime 1.32.0 CPU int8", 0.97)]
    points, _ = points_of(make_result(rows), dict(accuracies_in(reports)))
    assert [point.label for point in points] == ["OpenVINO fp32"]
    reports.append(report("OpenVINO 2026.4.1 CPU int8", 0.6))
    points, _ = points_of(make_result(rows), dict(accuracies_in(reports)))
    assert [point.image_auroc for point in points] == [98.0, 60.0]


def test_a_row_that_cannot_be_quoted_is_marked() -> None:
    rows = [make_row(unstable="the median is known to ±9.0% only")]
    (point,), _ = points_of(make_result(rows), dict(accuracies_in(report())))
    assert point.label == "~ ONNX Runtime fp32"


def test_the_papers_rows_stand_beside() -> None:
    labels = [point.label for point in paper_points()]
    assert len(labels) == len(set(labels)) == 7
    assert {"SegmentationAD", "DiffusionAD λ 100, 200", "norm-guided"} <= set(labels)
    assert not any(point.measured for point in paper_points())


def test_faster_is_left_and_better_is_higher() -> None:
    points, _ = points_of(RESULT, dict(accuracies_in(report())))
    points.append(replace(points[0], latency_ms=90.0, image_auroc=91.0))
    axes = draw_plot([*points, *paper_points()], "a CPU").axes[0]
    fast, slow = (axes.transData.transform((p.latency_ms, p.image_auroc)) for p in points)
    assert fast[0] < slow[0]
    assert fast[1] > slow[1]


def boxes_of(figure: Figure) -> dict[str, Bbox]:
    """Every label of a mark, and where its letters are."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    notes = [text for text in figure.axes[0].texts if isinstance(text, Annotation)]
    return {note.get_text(): Text.get_window_extent(note, renderer) for note in notes}


def test_no_label_of_the_committed_results_hides_another_or_leaves_the_picture() -> None:
    accuracies = {
        key: value
        for path in RESULTS.glob("evaluate-*.json")
        for key, value in accuracies_in(json.loads(path.read_text()))
    }
    result = read_result(RESULTS / "bench_amd-epyc-2-cores_2026-11-25.json")
    points, _ = points_of(result, accuracies)
    figure = draw_plot([*points, *paper_points()], result.device)
    boxes = boxes_of(figure)
    assert len(boxes) == len(points) + 7 == 11
    for (name, box), (other_name, other) in combinations(boxes.items(), 2):
        assert not box.overlaps(other), f"{name} and {other_name}"
    axes = figure.axes[0]
    for point in (*points, *paper_points()):
        x, y = axes.transData.transform((point.latency_ms, point.image_auroc))
        for name, box in boxes.items():
            assert not box.contains(x, y), f"{name} hides {point.label}"
    whole = figure.bbox
    assert all(whole.contains(*corner) for box in boxes.values() for corner in box.corners())


def test_both_axes_name_their_units_and_frames_per_second_are_those_of_the_latency() -> None:
    figure = draw_plot(paper_points(), "a CPU")
    figure.canvas.draw()
    axes = figure.axes[0]
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "latency of a frame, ms (logarithmic)"
    assert axes.get_ylabel() == "image AUROC, %"
    (rates,) = axes.child_axes
    texts = [label.get_text() for label in rates.get_xticklabels()]
    shown = dict(zip(rates.get_xticks(), texts, strict=True))
    assert (shown[50.0], shown[100.0]) == ("20", "10")


def test_the_script_writes_a_picture_and_prints_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, evaluation, out = (tmp_path / name for name in ("bench.json", "report.json", "plot.png"))
    bench.write_text(json.dumps(to_json(RESULT)))
    evaluation.write_text(json.dumps(report()))
    assert main([str(bench), "--accuracy", str(evaluation), "--out", str(out)]) == 0
    image = cv2.imread(str(out))
    assert image is not None
    assert image.shape == (HEIGHT_INCHES * DOTS_PER_INCH, WIDTH_INCHES * DOTS_PER_INCH, 3)
    assert "left out: nano int8" in capsys.readouterr().err


def test_nothing_to_draw_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps(to_json(RESULT)))
    assert main([str(bench), "--out", str(tmp_path / "plot.png")]) == 3
    assert "no row has an accuracy" in capsys.readouterr().err
