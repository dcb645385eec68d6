"""Many clients of a Triton server against the local inspector: throughput, latency, errors.

    python -m benchmarks.triton_load --engine triton://HOST:8001/MODEL --out benchmarks/results

The server runs on this machine and serves the bundle of --bundle (the demo bundle if left out),
exported with `dad-edge triton export`. The local inspector is measured first, with the server idle.
Each client is a thread that waits for an answer before it asks again. Writes
triton-load_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.naming import result_file
from dad_edge.bench.row import draw_frames
from dad_edge.bundle import PACKAGED, Bundle, open_bundle
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import open_inspector
from dad_edge.triton.engine import ask_servers

CLIENTS = (1, 4, 16)
WARM_UP = 5


def measure(open_one: Callable[[], Inspector], clients: int, seconds: float) -> dict[str, Any]:
    """Frames a second and latencies of so many inspectors at once, in threads of this process."""
    frames = draw_frames()
    latency_ms: list[list[float]] = [[] for _ in range(clients)]
    errors: list[str] = []
    began = threading.Barrier(clients + 1)

    def work(number: int, inspector: Inspector) -> None:
        for count in range(WARM_UP):
            inspector.inspect(frames[count % len(frames)])
        began.wait()
        end = time.perf_counter() + seconds
        count = number
        while (start := time.perf_counter()) < end:
            try:
                inspector.inspect(frames[count % len(frames)])
            except Exception as error:
                errors.append(str(error))
            latency_ms[number].append((time.perf_counter() - start) * 1e3)
            count += 1

    with ExitStack() as held:
        inspectors = [held.enter_context(open_one()) for _ in range(clients)]
        threads = [
            threading.Thread(target=work, args=(number, inspector))
            for number, inspector in enumerate(inspectors)
        ]
        for thread in threads:
            thread.start()
        began.wait()
        start, used = time.perf_counter(), time.process_time()
        for thread in threads:
            thread.join()
        wall_s, used_s = time.perf_counter() - start, time.process_time() - used
    whole = [ms for each in latency_ms for ms in each]
    return {
        "clients": clients,
        "frames": len(whole),
        "fps": round(len(whole) / wall_s, 2),
        "p50_ms": round(float(np.percentile(whole, 50)), 1),
        "p99_ms": round(float(np.percentile(whole, 99)), 1),
        "own_cpu_ms_a_frame": round(used_s / len(whole) * 1e3, 2),
        "errors": len(errors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--engine", required=True, help="address of the server")
    parser.add_argument("--bundle", type=Path, default=PACKAGED)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each measurement")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    bundle: Bundle = open_bundle(options.bundle)
    local = measure(lambda: open_inspector(bundle, pictures=False), 1, options.seconds)
    rows = [
        measure(lambda: ask_servers(bundle, options.engine), clients, options.seconds)
        for clients in CLIENTS
    ]
    environment = describe_machine()
    result = {"study": "triton-load", "device": environment["device"]}
    result |= {"date": date.today().isoformat(), "local": local, "served": rows}
    result["environment"] = environment
    path = result_file(options.out, "triton-load", environment["device"])
    write_json(path, result)
    print(path)


if __name__ == "__main__":
    main()
