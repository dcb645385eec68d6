from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from benchmarks.plot import main
from dad_edge.bench.case import UNTRAINED
from dad_edge.bench.plot import HEIGHT, WIDTH, accuracies_in, draw_plot, paper_points, points_of
from dad_edge.image.pictures import BLUE


def row(precision: str = "fp32", ms: float = 30.0, weights: str = "bundle") -> dict[str, Any]:
    return {
        "name": f"nano {precision} {weights}",
        "size": "nano",
        "engine": "ONNX Runtime",
        "precision": precision,
        "device": "cpu",
        "batch": 1,
        "cameras": 1,
        "decode": False,
        "weights": weights,
        "latency_ms": {"p50": ms},
    }


RESULT = {
    "schema_version": 3,
    "environment": {"device": "a CPU, 2 cores"},
    "bundle": {"sha256": {"denoiser.onnx": "d", "segmenter.onnx": "s"}},
    "rows": [row(), row("int8", 44.0), row(weights=UNTRAINED), row(ms=60.0) | {"batch": 2}],
}
REPORT = {
    "summary": {"image_auroc": 0.98},
    "context": {
        "bundle": {"sha256": {"denoiser.onnx": "d", "segmenter.onnx": "s"}},
        "backend": "NumPy + ONNX Runtime 1.32.0 CPU fp32, 2 threads",
        "data": {"name": "flanges"},
    },
}


def test_accuracies_are_found_wherever_an_evaluation_lies() -> None:
    of_run = {"summary": {"image_auroc": 0.9}, "context": {"checkpoint": {"sha256": {}}}}
    found = dict(accuracies_in({"stages": [{"result": REPORT}, of_run]}))
    assert found == {("d", "s", "fp32"): (0.98, "flanges")}


def test_a_row_without_accuracy_is_left_out_with_its_reason() -> None:
    points, left_out = points_of(RESULT, dict(accuracies_in(REPORT)))
    (point,) = points
    assert (point.latency_ms, point.image_auroc, point.colour) == (30.0, 98.0, BLUE)
    assert point.label == "nano ONNX Runtime fp32, flanges"
    assert left_out == [
        "nano int8 bundle: no evaluation of this bundle in int8 was given",
        f"nano fp32 {UNTRAINED}: untrained, so it has no accuracy",
    ]


def test_the_papers_rows_stand_beside() -> None:
    labels = [point.label for point in paper_points()]
    assert len(labels) == len(set(labels)) == 7
    assert {"SegmentationAD", "DiffusionAD lambda 100, 200", "norm-guided"} <= set(labels)
    assert not any(point.measured for point in paper_points())


def test_faster_is_left_and_better_is_higher() -> None:
    points, _ = points_of(RESULT, dict(accuracies_in(REPORT)))
    picture = draw_plot([*points, *paper_points()], "a CPU")
    assert picture.shape == (HEIGHT, WIDTH, 3)
    ys, xs = np.nonzero((picture == BLUE).all(axis=2))
    ours = xs[np.abs(ys - np.median(ys)) < 3].min()
    slower = draw_plot([*_moved(points, 90.0), *paper_points()], "a CPU")
    assert np.nonzero((slower == BLUE).all(axis=2))[1].min() > ours


def _moved(points: list[Any], ms: float) -> list[Any]:
    from dataclasses import replace

    return [replace(point, latency_ms=ms) for point in points]


def test_the_script_writes_a_picture_and_prints_what_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench, report, out = (tmp_path / name for name in ("bench.json", "report.json", "plot.png"))
    bench.write_text(json.dumps(RESULT))
    report.write_text(json.dumps(REPORT))
    assert main([str(bench), "--accuracy", str(report), "--out", str(out)]) == 0
    image = cv2.imread(str(out))
    assert image is not None
    assert image.shape == (HEIGHT, WIDTH, 3)
    assert "left out: nano int8 bundle" in capsys.readouterr().err


def test_nothing_to_draw_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bench = tmp_path / "bench.json"
    bench.write_text(json.dumps(RESULT))
    assert main([str(bench), "--out", str(tmp_path / "plot.png")]) == 3
    assert "no row has an accuracy" in capsys.readouterr().err
