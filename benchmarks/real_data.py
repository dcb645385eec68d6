"""One data set through every stage, as a user would run it, into one JSON file.

    python -m benchmarks.real_data --data DIR --minutes 30

Each stage is the `dad-edge` command in a process of its own. If a stage fails, its error
is written into the result and the study goes on. Models and reports stay in the work folder; the
result holds only figures, and no paths of this machine.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dad_edge
from benchmarks.naming import result_file
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.model.checkpoint import STATE

LEFT_OUT = ("scores", "examples", "environment")
"""Parts of a command's output that a study does not repeat."""
ERROR_CHARACTERS = 600


def stages(data: Path, size: str, minutes: float, seed: int, resume: bool) -> dict[str, list[str]]:
    """The commands of the study by name, with paths relative to the work folder.

    Args:
        data: folder of the data set, absolute.
        size: model size.
        minutes: wall-clock limit of the training.
        seed: of the training.
        resume: continue the training run that lies in the work folder.
    """
    source, bundle = ["--data", str(data)], ["--bundle", "bundle"]
    train = ["train", *source, "--size", size, "--max-minutes", str(minutes), "--out", "run"]
    train += ["--resume"] if resume else ["--seed", str(seed)]
    checkpoint = ["--checkpoint", "run"]
    return {
        "train": train,
        "evaluate PyTorch": ["evaluate", *source, *checkpoint, "--out", "report-pytorch"],
        "export": ["export", *checkpoint, "--out", "bundle", "--class-name", data.name],
        "calibrate": ["calibrate", *source, *bundle],
        "evaluate ONNX Runtime": ["evaluate", *source, *bundle, "--out", "report-onnxruntime"],
        "build int8": ["build", "--precision", "int8", *source, *bundle],
        "verify": ["verify", *source, *bundle],
        "stream": ["stream", "--source", str(data / "test"), *bundle, "--out", "stream"],
    }


def run_stage(
    command: Sequence[str], work: Path, names: Mapping[str, str], package: Path | None = None
) -> dict[str, Any]:
    """Run a command to its end.

    Args:
        command: program and arguments; it prints JSON on stdout.
        work: folder it runs in.
        names: paths of this machine, and what stands in their place in the result.
        package: folder of the program that runs; this one's if left out.

    Returns:
        `ok`, `exit_code`, `seconds`, `peak_memory_mib`, and `result` or `error`.
    """
    # The stages run the package that this study runs, wherever they start.
    package = package or Path(dad_edge.__file__).resolve().parents[1]
    environment = {**os.environ, "PYTHONPATH": str(package)}
    started = time.perf_counter()
    with (work / "stdout").open("w+b") as stdout, (work / "stderr").open("w+b") as stderr:
        process = subprocess.Popen(command, cwd=work, env=environment, stdout=stdout, stderr=stderr)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - started
        texts = []
        for file in (stdout, stderr):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "replace"))
    for path, name in names.items():
        texts = [text.replace(path, name) for text in texts]
    row: dict[str, Any] = {
        "ok": process.returncode == 0,
        "exit_code": process.returncode,
        "seconds": round(seconds, 2),
        "peak_memory_mib": round(usage.ru_maxrss / 1024, 1),
    }
    if not row["ok"]:
        row["error"] = error_in(texts[1])
    if (result := result_in(texts[0])) is not None:
        row["result"] = result
    return row


def result_in(stdout: str) -> Any:
    """The JSON document of a command, the last line of JSON lines, or None."""
    for text in (stdout, stdout.strip().rsplit("\n", 1)[-1]):
        try:
            return without(json.loads(text), LEFT_OUT)
        except json.JSONDecodeError:
            pass
    return None


def without(value: Any, keys: Sequence[str]) -> Any:
    """A JSON value without these keys at any depth."""
    if isinstance(value, dict):
        return {k: without(v, keys) for k, v in value.items() if k not in keys}
    if isinstance(value, list):
        return [without(item, keys) for item in value]
    return value


def error_in(stderr: str) -> str:
    """The message of a failed command: its error and next step, or the end of its output."""
    start = stderr.rfind("error: ")
    return stderr[start if start >= 0 else -ERROR_CHARACTERS :].strip()[:ERROR_CHARACTERS]


def run_study(data: Path, size: str, minutes: float, seed: int, work: Path) -> dict[str, Any]:
    """Run all stages in the work folder and say on stderr how each went.

    A training run that lies there already is continued up to the same limit.
    """
    work.mkdir(parents=True, exist_ok=True)
    resume = (work / "run" / STATE).is_file()
    names = {str(data): data.name, str(work): ".", str(Path.home()): "~"}
    environment = describe_machine()
    rows = {}
    for name, arguments in stages(data, size, minutes, seed, resume).items():
        print(f"{name} …", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "dad_edge", *arguments, "--json"]
        rows[name] = row = run_stage(command, work, names)
        outcome = f"{row['seconds']:.1f} s, {row['peak_memory_mib']:.0f} MiB"
        print(f"  {outcome}" if row["ok"] else f"  FAILED: {row['error']}", file=sys.stderr)
    return {
        "study": "real",
        "data": data.name,
        "size": size,
        "train_minutes": minutes,
        "seed": seed,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "figures": {
            name: row["result"]["summary"]
            for name, row in rows.items()
            if name.startswith("evaluate") and row["ok"]
        },
        "stages": rows,
        "environment": environment,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="data set in MVTec layout")
    parser.add_argument("--minutes", type=float, required=True, help="limit of the training")
    parser.add_argument("--seed", type=int, default=0, help="of the training")
    parser.add_argument("--size", default="nano", choices=("nano", "edge", "paper"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, help="runs/real-<data> if left out")
    options = parser.parse_args()
    data = options.data.resolve()
    if not data.is_dir():
        parser.error(f"data folder {options.data} does not exist")
    work = (options.work or Path("runs") / f"real-{data.name}").resolve()
    if (work / "bundle").exists():
        parser.error(f"{work} holds a finished study: remove it or choose another --work")
    study = run_study(data, options.size, options.minutes, options.seed, work)
    subject = data.name + (f"-seed-{options.seed}" if options.seed else "")
    path = result_file(options.out, "real", study["device"], subject)
    write_json(path, study)
    print(path)


if __name__ == "__main__":
    main()
