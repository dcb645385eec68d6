"""Whether a line keeps its memory while its engine fails: `python -m benchmarks.engine_failures`.

The demo line with its page; its engine raises an error again and again and is started anew each
time, after a pause that grows. Memory is looked at every five seconds.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.endurance import resident_mib
from benchmarks.naming import result_file
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine

ROOT = Path(__file__).parents[1]
WARM_UP_S, PAUSE_S = 20.0, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment = describe_machine()
    line = [sys.executable, "-m", "benchmarks.soak_line", "stream", "--source", "demo://"]
    seen: list[float] = []
    with tempfile.TemporaryDirectory() as folder, Path(folder, "said").open("w+b") as said:
        process = subprocess.Popen(
            [*line, "--web", "127.0.0.1:0", "--out", "out"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
            stderr=said,
        )
        time.sleep(WARM_UP_S)
        until = time.monotonic() + 60 * options.minutes
        while time.monotonic() < until and process.poll() is None:
            seen.append(round(resident_mib(process.pid), 1))
            process.send_signal(signal.SIGUSR1)
            time.sleep(PAUSE_S)
        process.terminate()
        code = process.wait()
        said.seek(0)
        starts = said.read().decode().count(" inspects now ")
    third = max(1, len(seen) // 3)
    result = {
        "schema_version": 1,
        "study": "engine failures",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "packages": environment["packages"],
        "minutes": options.minutes,
        "exit_code": code,
        "engines_started_again": starts,
        "memory_mib": seen,
        "median_mib_of_first_and_last_third": [
            statistics.median(seen[:third]),
            statistics.median(seen[-third:]),
        ],
    }
    path = result_file(options.out, "engine-failures", environment["device"])
    write_json(path, result)
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
