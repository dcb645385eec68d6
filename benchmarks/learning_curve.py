"""What a training of so many minutes gives: each length a run of its own, with its own schedule.

    python -m benchmarks.learning_curve --data DIR --minutes 3 10 30

The learning rate falls to zero over the minutes that are given, so a shorter training is another
one, not the beginning of a longer one. Each is `dad-edge train` and `dad-edge evaluate` in
processes of their own. `--package` names a clone of another version, whose `nano` may be another
one. Writes learning-curve_<data>_<device>_<date>.json after every run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dad_edge
from benchmarks.ablations import FIGURES, percent
from benchmarks.naming import result_file
from benchmarks.real_data import run_stage
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine


def train_and_evaluate(
    data: Path, size: str, minutes: float, seed: int, work: Path, package: Path
) -> dict[str, Any]:
    """One training from scratch and its figures on the test images.

    Returns:
        `minutes`, `steps` and the figures in percent, or `error`.
    """
    work.mkdir(parents=True)
    names = {str(data): data.name, str(work): ".", str(Path.home()): "~"}
    program = [sys.executable, "-m", "dad_edge"]
    source = ["--data", str(data), "--json"]
    options = ["--size", size, "--max-minutes", f"{minutes:g}", "--seed", str(seed)]
    train = [*program, "train", *source, *options, "--out", "run"]
    trained = run_stage(train, work, names, package)
    if not trained["ok"]:
        return {"minutes": minutes, "error": trained["error"]}
    evaluate = [*program, "evaluate", *source, "--checkpoint", "run"]
    evaluated = run_stage(evaluate, work, names, package)
    if not evaluated["ok"]:
        return {"minutes": minutes, "error": evaluated["error"]}
    summary = evaluated["result"]["summary"]
    figures = {name: percent(summary[name]) for name in FIGURES}
    return {"minutes": minutes, "steps": trained["result"]["step"], **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="data set with test images")
    parser.add_argument("--minutes", type=float, nargs="+", default=[3, 10, 30])
    parser.add_argument("--size", default="nano", choices=("nano", "edge", "paper"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--package", type=Path, help="clone of the version; this one if left out")
    parser.add_argument("--name", default="", help="of that version in the file's name")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, help="runs/curve-<data> if left out")
    options = parser.parse_args()
    data = options.data.resolve()
    if not data.is_dir():
        parser.error(f"data folder {options.data} does not exist")
    package = (options.package or Path(dad_edge.__file__).parents[1]).resolve()
    work = (options.work or Path("runs") / f"curve-{data.name}").resolve()
    environment = describe_machine()
    commit = subprocess.run(
        ["git", "-C", str(package), "rev-parse", "--short", "HEAD"],
        check=True,
        capture_output=True,
        text=True,
    )
    study: dict[str, Any] = {
        "study": "learning-curve",
        "data": data.name,
        "size": options.size,
        "seed": options.seed,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "cores": len(os.sched_getaffinity(0)),
        "package_commit": commit.stdout.strip(),
        "rows": [],
        "environment": environment,
    }
    subject = "-".join(filter(None, [data.name, options.name]))
    path = result_file(options.out, "learning-curve", study["device"], subject)
    for minutes in options.minutes:
        print(f"{minutes:g} minutes …", file=sys.stderr, flush=True)
        folder = work / f"{minutes:g}"
        row = train_and_evaluate(data, options.size, minutes, options.seed, folder, package)
        print(f"  {row}", file=sys.stderr, flush=True)
        study["rows"].append(row)
        write_json(path, study)
    print(path)


if __name__ == "__main__":
    main()
