"""Everything that needs a GPU, in one command on any CUDA machine: `make gpu`.

    python3 -m benchmarks.gpu --data DIR --minutes 9

Runs with that machine's own Python and packages and downloads nothing. Each part is a process of
its own, bounded in time; a part that cannot run says why and the others go on. `gpu.json` and the
training's reports lie in --out.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.real_data import result_in
from dad_edge.bundle import write_json
from dad_edge.environment import describe

ROOT = Path(__file__).parents[1]
SPARE_MINUTES = 5.0
"""Time beyond the training limit that a part gets for start and end."""


def parts(data: Path | None, minutes: float, out: Path) -> dict[str, list[str] | str]:
    """Command of each part by name, or the reason why it is left out."""
    package = [sys.executable, "-m", "dad_edge"]
    run = out / "paper"
    missing = "no data set: give --data DIR"
    training: dict[str, list[str] | str] = {"training": missing, "evaluation": missing}
    if data is not None:
        source = ["--data", str(data), "--json"]
        limits = ["--size", "paper", "--epochs", "1000000", "--max-minutes", str(minutes)]
        training = {
            "training": [
                *package,
                "train",
                *source,
                *limits,
                "--device",
                "cuda",
                "--out",
                str(run),
            ],
            "evaluation": [*package, "evaluate", *source, "--checkpoint", str(run)],
        }
    return {
        "doctor": [*package, "doctor", "--json"],
        "tests": [sys.executable, "-m", "pytest", "-m", "gpu", "-p", "no:cacheprovider"],
        "speed": [*package, "bench", "--study", "all", "--json"],
        **training,
    }


def run_part(command: list[str] | str, limit_s: float) -> dict[str, Any]:
    """Run one part to its end or its limit."""
    if isinstance(command, str):
        return {"ok": False, "error": command}
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=limit_s
        )
    except (subprocess.TimeoutExpired, OSError) as error:
        return {
            "ok": False,
            "seconds": round(time.perf_counter() - started, 1),
            "error": str(error),
        }
    row: dict[str, Any] = {
        "ok": done.returncode == 0,
        "exit_code": done.returncode,
        "seconds": round(time.perf_counter() - started, 1),
    }
    if (result := result_in(done.stdout)) is not None:
        row["result"] = result
    elif done.stdout:
        row["output"] = done.stdout[-2000:]
    return row if row["ok"] else row | {"error": done.stderr[-1000:]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="data set for a timed training at paper size")
    parser.add_argument("--minutes", type=float, default=9.0, help="limit of the training")
    parser.add_argument("--out", type=Path, default=Path("gpu-out"))
    options = parser.parse_args()
    limit_s = (options.minutes + SPARE_MINUTES) * 60
    rows = {}
    data = options.data.resolve() if options.data else None
    for name, command in parts(data, options.minutes, options.out.resolve()).items():
        print(f"{name} …", file=sys.stderr, flush=True)
        rows[name] = row = run_part(command, limit_s)
        print("  done" if row["ok"] else f"  cannot: {row.get('error', '')}", file=sys.stderr)
        study = {"schema_version": 1, "study": "gpu", "environment": describe(), "parts": rows}
        write_json(options.out / "gpu.json", study)
    print(options.out / "gpu.json")


if __name__ == "__main__":
    main()
