"""A line under load: rate, fair shares, latency that stays, and what everything but the networks
costs.

    python -m benchmarks.line_load --seconds 60 --out benchmarks/results

Four live sources of 1280x720 pixels share one engine. Their frames lie in memory, as a driver hands
them over. The bundle is that of the repository unless another is named. Rows: the inspector alone
on the same frames; the line with four cameras; the same with one camera that is slow and one that
is dead; and with the sinks that every line has, all parts good but one in forty. Exit code 1 if a
limit is missed. Writes line-load_<device>_<date>.json. Frames a second mean something on an idle
machine only; the result says what else ran.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.bundle import find_bundle, open_bundle
from dad_edge.data.demo import line as demo_line
from dad_edge.errors import DataError
from dad_edge.line.config import CameraConfig, LineConfig
from dad_edge.line.runner import Line, Outlets
from dad_edge.line.seams import Event, Judged, SinkState
from dad_edge.line.sinks.open import open_sinks
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.load import LoadWatch
from dad_edge.machine.signals import StopRequest
from dad_edge.runtime.inspector import open_inspector
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable, now

SIZE = (1280, 720)
CAMERAS = 4
PICTURES = 8
GOOD_OF_A_DEFECT = 39
"""Good parts for each defect, where results are written."""
WARM_UP_S = 3.0
"""Left out at the start of every row."""
NETWORKS = ("denoise", "segment")
MOST_OVERHEAD = 0.10
"""Of a frame: what everything but the networks may take."""
MOST_UNFAIR = 1.1
"""The most frames of a camera by the fewest of another one that wants as many."""
MOST_GROWTH = 1.25
"""The median latency of the last quarter by that of the first."""


class Noted:
    """Keeps the timings of every frame, and nothing else."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, float, float, float, dict[str, float]]] = []
        """Camera, seconds, latency and waiting in ms, and the stages in ms."""

    def write(self, judged: Judged) -> None:
        result = judged.result
        self.rows.append(
            (
                judged.camera,
                time.perf_counter(),
                result.latency_ms,
                result.waited_ms,
                result.inspection.stage_ms,
            )
        )

    def skip(self, camera: str, missing: Unreadable) -> None:
        pass

    def event(self, event: Event) -> None:
        pass

    def states(self) -> Sequence[SinkState]:
        return ()

    def close(self) -> None:
        pass


def pictures(count: int = PICTURES, defect_rate: float = 0.25) -> list[NDArray[np.uint8]]:
    """Parts of the demo product at the size of a camera's frame."""
    samples = demo_line(0, defect_rate)
    return [
        np.asarray(cv2.resize(next(samples).image, SIZE, interpolation=cv2.INTER_CUBIC), np.uint8)
        for _ in range(count)
    ]


def camera_source(name: str, images: Sequence[NDArray[np.uint8]], fps: float) -> Source:
    """A live camera that has a frame so many times a second; one of no frames breaks off."""

    def frames() -> Frames:
        if fps <= 0:
            raise DataError(f"{name} is dead.", "it is meant to be")
        due = time.perf_counter()
        for index in range(sys.maxsize):
            yield Frame(images[index % len(images)], f"{name}#{index}", index, now())
            due = max(due + 1 / fps, time.perf_counter())
            time.sleep(max(0.0, due - time.perf_counter()))

    return Source(name, frames(), live=True, fps=fps)


def alone(bundle: Path, images: Sequence[NDArray[np.uint8]], seconds: float) -> dict[str, Any]:
    """The inspector by itself, frame after frame."""
    stages: list[dict[str, float]] = []
    with open_inspector(bundle, pictures=False) as inspector:
        until = time.perf_counter() + WARM_UP_S
        while time.perf_counter() < until:
            inspector.inspect(images[0])
        started = time.perf_counter()
        while time.perf_counter() < started + seconds:
            stages.append(inspector.inspect(images[len(stages) % len(images)]).stage_ms)
        frame_ms = (time.perf_counter() - started) * 1e3 / len(stages)
        backend = inspector.backend
    networks_ms = _networks_ms(stages)
    return {
        "row": "inspector alone",
        "backend": backend,
        "frames": len(stages),
        "fps": round(1e3 / frame_ms, 2),
        "frame_ms": round(frame_ms, 3),
        "networks_ms": round(networks_ms, 3),
        "around_ms": round(_around_ms(stages), 3),
        "overhead_share": round(1 - networks_ms / frame_ms, 4),
    }


def loaded(
    row: str,
    bundle: Path,
    images: Sequence[NDArray[np.uint8]],
    rates: dict[str, float],
    seconds: float,
    *,
    sinks: bool = False,
) -> dict[str, Any]:
    """A line with a camera for each rate, for so many seconds.

    Args:
        row: its name.
        bundle: that all cameras inspect with.
        images: of every camera.
        rates: name → frames a second; 0 is a dead camera.
        seconds: of the measurement, after the warm-up.
        sinks: whether results are written too.
    """
    noted = Noted()
    with tempfile.TemporaryDirectory() as scratch:
        config = LineConfig(
            cameras={name: CameraConfig(source=name, bundle=str(bundle)) for name in rates},
            folder=scratch,
        )
        line = Line(config, lambda s, _: camera_source(str(s), images, rates[str(s)]))
        stop = StopRequest()

        def end() -> None:
            while not noted.rows:
                time.sleep(0.01)
            time.sleep(WARM_UP_S + seconds)
            stop.signal_number = 15

        threading.Thread(target=end, daemon=True).start()

        def opened(on_event: Callable[[Event], None]) -> Outlets:
            if not sinks:
                return noted
            return _Both(noted, open_sinks(config.sinks, Path(scratch), config.name, on_event))

        summary = line.work(opened, stop)
    begin = noted.rows[0][1] + WARM_UP_S
    rows = [entry for entry in noted.rows if begin <= entry[1] <= begin + seconds]
    state = next(iter(summary.cameras.values()))
    found = _figures(rows, seconds, rates, lanes_of(state.engine))
    dropped = {name: camera.dropped for name, camera in summary.cameras.items()}
    return {"row": row, "backend": state.engine, "dropped": dropped, **found}


def _figures(
    rows: Sequence[tuple[str, float, float, float, dict[str, float]]],
    seconds: float,
    rates: dict[str, float],
    lanes: int,
) -> dict[str, Any]:
    """Of the frames within the measured seconds. `frame_ms` is what a lane needs for a frame."""
    stages = [entry[4] for entry in rows]
    frame_ms = seconds * 1e3 * lanes / len(rows)
    networks_ms = _networks_ms(stages)
    total = [entry[2] + entry[3] for entry in rows]
    quarter = max(1, len(rows) // 4)
    first, last = (float(np.median(part)) for part in (total[:quarter], total[-quarter:]))
    counts = {name: sum(entry[0] == name for entry in rows) for name in rates}
    fast = [counts[name] for name, rate in rates.items() if rate == max(rates.values())]
    return {
        "frames": len(rows),
        "fps": round(len(rows) / seconds, 2),
        "fps_of": {name: round(count / seconds, 2) for name, count in counts.items()},
        "lanes": lanes,
        "most_by_fewest": round(max(fast) / max(1, min(fast)), 3),
        "frame_ms": round(frame_ms, 3),
        "networks_ms": round(networks_ms, 3),
        "around_ms": round(_around_ms(stages), 3),
        "line_ms": round(frame_ms - networks_ms - _around_ms(stages), 3),
        "overhead_share": round(1 - networks_ms / frame_ms, 4),
        "read_to_verdict_ms": _percentiles(total),
        "engine_ms": _percentiles([entry[2] for entry in rows]),
        "waited_ms": _percentiles([entry[3] for entry in rows]),
        "latency_growth": round(last / first, 3),
    }


class _Both:
    """Several outlets that take the same."""

    def __init__(self, *outlets: Outlets) -> None:
        self._all = outlets

    def write(self, judged: Judged) -> None:
        for each in self._all:
            each.write(judged)

    def skip(self, camera: str, missing: Unreadable) -> None:
        for each in self._all:
            each.skip(camera, missing)

    def event(self, event: Event) -> None:
        for each in self._all:
            each.event(event)

    def states(self) -> Sequence[SinkState]:
        return [state for each in self._all for state in each.states()]

    def close(self) -> None:
        for each in self._all:
            each.close()


def lanes_of(backend: str) -> int:
    """How many inspectors work side by side."""
    found = re.search(r"(\d+) side by side", backend)
    return int(found[1]) if found else 1


def _networks_ms(stages: Sequence[dict[str, float]]) -> float:
    return float(np.mean([sum(stage[name] for name in NETWORKS) for stage in stages]))


def _around_ms(stages: Sequence[dict[str, float]]) -> float:
    """The steps of the method around the networks: resize, noise, restore, pool."""
    return float(np.mean([sum(stage.values()) for stage in stages])) - _networks_ms(stages)


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    p50, p95, p99 = np.percentile(np.array(values), [50, 95, 99])
    return {"p50": round(float(p50), 2), "p95": round(float(p95), 2), "p99": round(float(p99), 2)}


def misses(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Limits that a line missed, in words; the inspector alone has none."""
    found = []
    for row in rows:
        name = row["row"]
        if "lanes" in row and row["overhead_share"] > MOST_OVERHEAD:
            found.append(f"{name}: everything but the networks takes {row['overhead_share']:.1%}")
        if row.get("most_by_fewest", 1.0) > MOST_UNFAIR:
            found.append(f"{name}: shares differ by {row['most_by_fewest']}")
        if row.get("latency_growth", 1.0) > MOST_GROWTH:
            found.append(f"{name}: latency grew by {row['latency_growth']}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="A line under load.")
    parser.add_argument("--seconds", type=float, default=60.0, help="of every row")
    parser.add_argument("--fps", type=float, default=25.0, help="of a camera")
    parser.add_argument("--bundle", type=Path, help="another bundle than that of the repository")
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    options = parser.parse_args()
    path, _ = find_bundle(options.bundle)
    bundle = open_bundle(path)
    images = pictures()
    even = {f"cam-{number}": options.fps for number in range(CAMERAS)}
    uneven = {**even, "cam-0": 0.5, "cam-1": 0.0}
    mostly_good = [*pictures(GOOD_OF_A_DEFECT, 0.0), pictures(1, 1.0)[0]]
    with LoadWatch() as watch:
        rows = [
            alone(path, images, options.seconds),
            loaded("four cameras", path, images, even, options.seconds),
            loaded("one slow, one dead", path, images, uneven, options.seconds),
            loaded("with sinks", path, mostly_good, even, options.seconds, sinks=True),
        ]
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "line-load",
        "date": date.today().isoformat(),
        "bundle": {"class_name": bundle.manifest.class_name, "size": bundle.model.size,
                   "image_size": bundle.model.image_size},
        "frame_size": SIZE,
        "camera_fps": options.fps,
        "seconds": options.seconds,
        "limits": {"overhead_share": MOST_OVERHEAD, "most_by_fewest": MOST_UNFAIR,
                   "latency_growth": MOST_GROWTH},
        "rows": rows,
        "missed": misses(rows),
        "load": asdict(watch.load),
        "environment": environment,
    }  # fmt: skip
    text = json.dumps(result, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "line-load", environment["device"])
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)
    return 1 if result["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
