"""INT8 weights for CPUs without VNNI: accuracy and speed of both ranges, on older instruction sets.

    python -m benchmarks.weight_range --out benchmarks/results
    python -m benchmarks.weight_range --bundle bundle --data DIR --out benchmarks/results

Measured are weights up to ±127, and weights of which any two add up to at most 128, each as built
and with every weight rounded to the nearest level. OpenVINO runs them in one process for each
instruction set, which oneDNN reads from its environment; ONNX Runtime has no such setting. Accuracy
is against FP32 in ONNX Runtime on the test split. Times are medians of one frame on one thread; the
rows take turns.
Writes weight-range_<data>_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import onnx

from benchmarks.against_fp32 import arguments, differences, judge, run
from benchmarks.real_data import error_in, result_in
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle, open_bundle
from dad_edge.data.layouts import list_items
from dad_edge.gate.sensitivity import ranges_of
from dad_edge.graphs import quantize
from dad_edge.graphs.openvino import for_openvino
from dad_edge.image.preprocess import read_frame
from dad_edge.machine.load import LoadWatch
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.seams import Engine
from dad_edge.runtime.sidecar import CPU_PAIR_LIMIT

ROOT = Path(__file__).parents[1]
MOST_ISA = "ONEDNN_MAX_CPU_ISA"
INSTRUCTION_SETS = ("ALL", "AVX512_CORE", "AVX2")
"""Instruction sets as oneDNN names them. The first is that of the machine, the others lack VNNI.
OpenVINO's own kernels do not obey, and refuse to run beside oneDNN with less than AVX2."""
ROUNDS = 25

Kind = tuple[int | None, bool]
"""Limit of two weights, and whether every weight goes to its nearest level."""
KINDS: tuple[Kind, ...] = (
    (None, True),
    (None, False),
    (CPU_PAIR_LIMIT, True),
    (CPU_PAIR_LIMIT, False),
)


def inspector_of(
    bundle: Bundle, engine: type[OnnxEngine] | type[OpenvinoEngine], kind: Kind | None
) -> HostInspector:
    """FP32, or INT8 of a kind, on one thread."""
    engines: list[Engine] = []
    with tempfile.TemporaryDirectory() as folder:
        for name in (DENOISER, SEGMENTER):
            model = quantize.load_graph(bundle.path / name)
            if kind:
                limit, nearest = kind
                whole = np.rint if nearest else quantize._whole
                with patch.object(quantize, "_whole", whole):
                    model = quantize.to_int8(model, ranges_of(bundle, name), pair_limit=limit)
            if engine is OpenvinoEngine:
                model = for_openvino(model)
            onnx.save(model, Path(folder) / name)
            engines.append(engine(Path(folder) / name, threads=1))
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    threshold = bundle.thresholds.image_threshold if bundle.thresholds else 0.5
    denoiser, segmenter = engines
    return HostInspector(ops, denoiser, segmenter, threshold, ignore=bundle.ignore)


def frame_ms(inspectors: dict[str, HostInspector], frame: Any) -> dict[str, float]:
    """Median time of a frame, of inspectors that take turns."""
    spent: dict[str, list[float]] = {name: [] for name in inspectors}
    for turn in range(ROUNDS + 2):
        for name, inspector in inspectors.items():
            began = time.perf_counter()
            inspector.inspect(frame)
            if turn >= 2:
                spent[name].append(time.perf_counter() - began)
    return {name: round(1e3 * statistics.median(times), 3) for name, times in spent.items()}


def measure(bundle: Bundle, data: Path, only_openvino: bool) -> dict[str, Any]:
    """All rows on the instruction set of this process."""
    test = list_items(data, "test")
    reference = inspector_of(bundle, OnnxEngine, None)
    before = judge(reference, test)
    engines = {"OpenVINO": OpenvinoEngine, "ONNX Runtime": OnnxEngine}
    if only_openvino:
        del engines["ONNX Runtime"]
    inspectors, rows = {}, []
    for runtime, engine in engines.items():
        for kind in (None, *KINDS):
            name = f"{runtime} {kind}"
            inspectors[name] = inspector_of(bundle, engine, kind)
            row: dict[str, Any] = {"name": name, "runtime": runtime, "precision": "fp32"}
            if kind:
                rounding = "nearest" if kind[1] else "kernel sums"
                row |= {"precision": "int8", "pair_limit": kind[0], "rounding": rounding}
            rows.append(
                row | differences(before, judge(inspectors[name], test), reference.threshold)
            )
    with LoadWatch() as watch:
        medians = frame_ms(inspectors, read_frame(test[0].path))
    for row in rows:
        row["frame_ms"] = medians[row.pop("name")]
    return {
        "fp32": {"image_auroc": before.auroc, "pro": before.pro},
        "test_images": len(test),
        "threshold": reference.threshold,
        "rows": rows,
        "load": asdict(watch.load),
    }


def run_study(bundle: Bundle, data: Path) -> dict[str, Any]:
    """The rows of every instruction set, each in a process of its own."""
    rows = {}
    for name in INSTRUCTION_SETS:
        command = [sys.executable, "-m", "benchmarks.weight_range", "--row", name]
        command += ["--bundle", str(bundle.path.resolve()), "--data", str(data.resolve())]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), MOST_ISA: name}
        process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        rows[name] = result_in(process.stdout) or {"error": error_in(process.stderr)}
        print(name, json.dumps(rows[name]), file=sys.stderr, flush=True)
    return {"instruction_sets": rows}


def main() -> None:
    parser: argparse.ArgumentParser = arguments(__doc__)
    parser.add_argument("--row", choices=INSTRUCTION_SETS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        only_openvino = options.row != INSTRUCTION_SETS[0]
        print(json.dumps(measure(open_bundle(options.bundle), options.data, only_openvino)))
        return
    print(run("weight-range", options, run_study))


if __name__ == "__main__":
    main()
