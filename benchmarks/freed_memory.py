"""What PyTorch on the CPU gains from keeping freed memory.

    python -m benchmarks.freed_memory --out benchmarks/results

Each row is measured in several processes, and the processes of all rows take turns: one process
alone says little, because what glibc gives back depends on what the process did before. Writes
freed-memory_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.naming import result_file
from dad_edge.bench.case import Case, recipe_model
from dad_edge.bench.measure import Call, measure, rounded, summary
from dad_edge.bench.pace import Pace
from dad_edge.bench.row import draw_frames
from dad_edge.bench.subject import open_case
from dad_edge.config import RECIPES
from dad_edge.data.dataset import Batch
from dad_edge.files import write_json
from dad_edge.learn import trainer
from dad_edge.learn.parallel import Processes
from dad_edge.machine.environment import describe_machine, peak_memory_mib
from dad_edge.runtime.cpu import engine_torch

WORK = ("training step", "inspection")
KEPT, GIVEN_BACK = "kept", "given back as glibc does"


def training_step() -> Call:
    """A step of training at size `nano` on drawn parts, without reading and synthesis."""
    recipe = RECIPES["nano"]
    frames = np.stack(draw_frames()[: recipe.train.batch_size])
    side = recipe.model.image_size
    frames = np.ascontiguousarray(frames[:, :side, :side])
    batch = Batch(frames, frames[..., 0] > 128, frames)
    learner = trainer.Trainer(recipe, Processes(torch.device("cpu")))
    return lambda index: learner.learn(batch, 0.5)


def measure_process(work: str, freed: str, seconds: float) -> dict[str, Any]:
    """One process of one row."""
    if freed == GIVEN_BACK:
        for module in (trainer, engine_torch):
            vars(module)["keep_freed_memory"] = lambda: False
    case = Case(model=recipe_model("nano"), engine="PyTorch eager")
    call = training_step() if work == WORK[0] else open_case(case, draw_frames()).call
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    samples = measure(call, seconds, pace=Pace())
    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults
    figures = summary(samples, 1)
    return {
        "ms": figures.latency_ms.p50,
        "unstable": figures.unstable,
        "slowed_share": figures.slowed_share,
        "page_faults_in_all": faults,
        "peak_memory_mib": peak_memory_mib(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--processes", type=int, default=5, help="of each row")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each process")
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    parser.add_argument("--row", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        work, freed = options.row
        print(json.dumps(measure_process(work, freed, options.seconds)))
        return
    rows = [{"work": work, "freed": freed} for work in WORK for freed in (KEPT, GIVEN_BACK)]
    processes_of_rows: list[list[dict[str, Any]]] = [[] for _ in rows]
    for _ in range(options.processes):
        for row, processes in zip(rows, processes_of_rows, strict=True):
            command = [
                sys.executable,
                "-m",
                "benchmarks.freed_memory",
                "--row",
                row["work"],
                row["freed"],
            ]
            command += ["--seconds", str(options.seconds)]
            process = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
            processes.append(json.loads(process.stdout))
            print(row, processes[-1], file=sys.stderr, flush=True)
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "freed-memory",
        "date": date.today().isoformat(),
        "seconds": options.seconds,
        "rows": [
            row
            | {"median_ms": rounded(float(np.median([p["ms"] for p in processes])))}
            | {"processes": processes}
            for row, processes in zip(rows, processes_of_rows, strict=True)
        ],
        "environment": environment,
    }
    print(json.dumps(result, indent=2))
    if options.out:
        file = result_file(options.out, "freed-memory", environment["device"])
        write_json(file, result)
        print(f"wrote {file}", file=sys.stderr)


if __name__ == "__main__":
    main()
