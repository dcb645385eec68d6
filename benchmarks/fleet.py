"""How many cameras a server carries: a queue simulated with measured service times.

    python -m benchmarks.fleet --out benchmarks/results

Frames of all cameras wait in one queue. The server takes those that are there, up to a batch, and
waits a little for more if there are fewer. How long a batch takes comes from files of results:
`fused_*` for a GPU, `triton-load_*` for two cores. The simulation is checked against the clients of
`triton-load`, who ask again as soon as they have an answer. Writes fleet_<date>.json.
"""

from __future__ import annotations

import argparse
import heapq
import json
import math
from bisect import bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from dad_edge.files import write_json
from dad_edge.triton.repository import LARGEST_BATCH, QUEUE_US

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Service:
    """How long a batch takes."""

    seconds_of: Callable[[int], float]
    """Median, by the number of its frames."""
    spread: float
    """Standard deviation of its logarithm."""


RATES = (5.0, 10.0, 25.0)
"""Frames a second of a camera."""
LIMITS_MS = (50.0, 100.0, 250.0)
"""Of the 99th percentile, from the arrival of a frame at the server to its answer."""
SECONDS, WARM_UP_S = 60.0, 5.0
P95, P99 = 1.645, 2.326
"""Of the normal distribution, in standard deviations."""


def between(measured: Mapping[int, float]) -> Callable[[int], float]:
    """Medians between measured ones, on straight lines; beyond the last, on its line."""
    sizes = sorted(measured)

    def service(count: int) -> float:
        if len(sizes) == 1:
            return measured[sizes[0]] * count / sizes[0]
        place = min(max(bisect_right(sizes, count), 1), len(sizes) - 1)
        low, high = sizes[place - 1], sizes[place]
        share = (count - low) / (high - low)
        return measured[low] + share * (measured[high] - measured[low])

    return service


def simulate(
    service: Service,
    cameras: int,
    period_s: float | None,
    *,
    seconds: float = SECONDS,
    batch: int = LARGEST_BATCH,
    wait_s: float = QUEUE_US / 1e6,
) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Latencies in milliseconds of frames that arrive after the warm-up.

    Args:
        service: how long a batch takes.
        cameras: how many send frames.
        period_s: from frame to frame of a camera, each with a phase of its own; None for clients
            that send the next frame as soon as they have an answer.
        seconds: that are simulated.
        batch: frames that are taken together, at most.
        wait_s: for how long the first of fewer frames waits for others.
    """
    rng = np.random.default_rng(cameras)
    if period_s is None:
        arrivals = [0.0] * cameras
    else:
        phases = rng.random(cameras) * period_s
        arrivals = np.add.outer(np.arange(0, seconds, period_s), phases).ravel().tolist()
    heapq.heapify(arrivals)
    free, latencies = 0.0, []
    while arrivals and arrivals[0] < seconds:
        taken = [heapq.heappop(arrivals)]
        start = max(free, taken[0])
        while arrivals and len(taken) < batch and arrivals[0] <= max(start, taken[0] + wait_s):
            taken.append(heapq.heappop(arrivals))
        if len(taken) < batch and (period_s is not None or arrivals):
            start = max(start, taken[0] + wait_s)
        start = max(start, taken[-1])
        free = start + service.seconds_of(len(taken)) * rng.lognormal(0.0, service.spread)
        latencies += [free - arrived for arrived in taken if arrived >= WARM_UP_S]
        if period_s is None:
            for _ in taken:
                heapq.heappush(arrivals, free)
    return np.array(latencies) * 1e3


def most_cameras(service: Service, rate: float, limit_ms: float) -> int:
    """The most cameras whose 99th percentile stays below a limit."""

    def holds(cameras: int) -> bool:
        return float(np.percentile(simulate(service, cameras, 1 / rate), 99)) <= limit_ms

    low, high = 0, 1
    while holds(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def latest(name: str) -> dict[str, Any]:
    """The latest result of a study."""
    path = sorted(RESULTS.glob(f"{name}_*.json"))[-1]
    result: dict[str, Any] = json.loads(path.read_text())
    return result | {"file": path.name}


def servers() -> dict[str, tuple[str, Service]]:
    """Servers by name: the file that they come from, and how long a batch takes."""
    fused, load = latest("fused"), latest("triton-load")
    rows = fused["after"]["rows"] if "after" in fused else fused["rows"]

    def on_gpu(size: str) -> Service:
        own = [r for r in rows if (r["size"], r["precision"]) == (size, "fp16")]
        own = [r for r in own if not r["pictures"]]
        spread = max(math.log(r["p95_ms"] / r["p50_ms"]) / P95 for r in own)
        return Service(between({r["batch"]: r["p50_ms"] / 1e3 for r in own}), spread)

    alone = load["served"][0]
    whole = between({1: 1 / max(row["fps"] for row in load["served"])})
    on_cores = Service(whole, math.log(alone["p99_ms"] / alone["p50_ms"]) / P99)
    return {
        f"nano, PyTorch FP16, {fused['device']}": (fused["file"], on_gpu("nano")),
        f"paper, PyTorch FP16, {fused['device']}": (fused["file"], on_gpu("paper")),
        f"nano, {load['device']}": (load["file"], on_cores),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=RESULTS)
    options = parser.parse_args()
    known, load = servers(), latest("triton-load")
    rows = [
        {
            "server": name,
            "from": file,
            "fps_of_a_camera": rate,
            "p99_limit_ms": limit_ms,
            "cameras": most_cameras(service, rate, limit_ms),
        }
        for name, (file, service) in known.items()
        for rate in RATES
        for limit_ms in LIMITS_MS
    ]
    cores = known[f"nano, {load['device']}"][1]
    checks = []
    for row in load["served"]:
        found = simulate(cores, row["clients"], None)
        said = {
            "p50_ms": float(np.percentile(found, 50)),
            "p99_ms": float(np.percentile(found, 99)),
        }
        said["fps"] = len(found) / (SECONDS - WARM_UP_S)
        checks.append(
            {"clients": row["clients"]}
            | {f"simulated_{key}": round(value, 1) for key, value in said.items()}
            | {f"measured_{key}": row[key] for key in said}
        )
    path = options.out / f"fleet_{date.today().isoformat()}.json"
    write_json(path, {"study": "fleet", "rows": rows, "checked_against": checks})
    print(path)


if __name__ == "__main__":
    main()
