"""CPU runtimes with their threads pinned: frames per second, steps around the networks, memory.

    python -m benchmarks.cpu_speed --threads 1 2 --out benchmarks/results

ONNX Runtime and OpenVINO in FP32 and INT8 run the bundle's graphs, PyTorch untrained networks of
the same size. Every row is a process of its own on as many cores as it has threads. Writes
cpu-speed_<device>_<date>.json; needs an idle machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from benchmarks.endurance import resident_mib
from benchmarks.naming import result_file
from benchmarks.real_data import error_in, result_in
from dad_edge.bench.case import Case, CasePrecision, EngineName
from dad_edge.bench.measure import measure, summary
from dad_edge.bench.row import draw_frames
from dad_edge.bench.subject import open_case
from dad_edge.bundle import find_bundle, open_bundle
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.load import LoadWatch

ROOT = Path(__file__).parents[1]
ROWS: tuple[tuple[EngineName, CasePrecision], ...] = (
    ("ONNX Runtime", "fp32"),
    ("ONNX Runtime", "int8"),
    ("OpenVINO", "fp32"),
    ("OpenVINO", "int8"),
    ("PyTorch eager", "fp32"),
)
AROUND = ("inject", "restore", "pool")
"""The steps around the networks."""


def measure_row(
    engine: EngineName, precision: CasePrecision, bundle_path: Path | None, seconds: float
) -> dict[str, Any]:
    """One row, on the cores that this process may use."""
    bundle = open_bundle(find_bundle(bundle_path)[0])
    case = Case(model=bundle.model, engine=engine, precision=precision, bundle=bundle)
    frames = draw_frames()
    before = resident_mib()
    with open_case(case, frames) as subject, LoadWatch() as watch:
        began = time.process_time()
        samples = measure(subject.call, seconds)
        spent_s = time.process_time() - began
    calls = len(samples.latency_ms) + samples.warm_up_calls
    around = sum(stages[step] for stages in samples.stage_ms for step in AROUND)
    return {
        "backend": subject.backend,
        "weights": case.weights,
        "setup_s": round(subject.setup_s, 3),
        **asdict(summary(samples, 1)),
        "cpu_ms_per_frame": round(spent_s * 1e3 / calls, 3),
        "share_around_networks": round(around / sum(samples.latency_ms), 4),
        "growth_mib": round(resident_mib() - before, 1),
        "resident_mib": round(resident_mib(), 1),
        "load": asdict(watch.load),
    }


def run_row(
    engine: str, precision: str, threads: int, options: argparse.Namespace
) -> dict[str, Any]:
    """One row in a process of its own, pinned to as many cores as it has threads."""
    command = [sys.executable, "-m", "benchmarks.cpu_speed", "--row", engine, precision]
    command += ["--threads", str(threads), "--seconds", str(options.seconds)]
    command += ["--bundle", str(options.bundle.resolve())] if options.bundle else []
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(threads)}
    process = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    row = {"engine": engine, "precision": precision, "threads": threads}
    return row | (result_in(process.stdout) or {"error": error_in(process.stderr)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, help="the demo bundle if left out")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--seconds", type=float, default=5.0, help="for each row")
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    parser.add_argument("--row", nargs=2, metavar=("ENGINE", "PRECISION"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        engine, precision = options.row
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads[0]])
        print(json.dumps(measure_row(engine, precision, options.bundle, options.seconds)))
        return
    rows = []
    for threads in options.threads:
        for engine, precision in ROWS:
            rows.append(run_row(engine, precision, threads, options))
            print(rows[-1], file=sys.stderr, flush=True)
    environment = describe_machine()
    result = {"schema_version": 1, "study": "cpu-speed", "date": date.today().isoformat()}
    result |= {"rows": rows, "environment": environment}
    print(json.dumps(result, indent=2))
    if options.out:
        file = result_file(options.out, "cpu-speed", environment["device"])
        write_json(file, result)
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
