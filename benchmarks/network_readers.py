"""OpenCV beside PyAV as readers of network cameras: `python -m benchmarks.network_readers`.

A server of GStreamer shows in each picture when it was made, which gives the age of a picture when
a reader hands it over. Then the server is stopped, killed, and replaced by one that never answers,
and what is measured is how long a reader takes to say so. Needs `pip install av`, and Debian's
gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly and python3-gi.
"""

from __future__ import annotations

import argparse
import importlib
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from benchmarks.rtsp_recovery import start_server
from dad_edge.errors import DataError
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.load import LoadWatch
from dad_edge.stream.captures import open_network
from dad_edge.stream.frames import Frame

SERVER = Path(__file__).parents[1] / "tests" / "support" / "clock_server.py"
PORT, FPS, BITS = 18700, 25, 32
ADDRESS = f"rtsp://127.0.0.1:{PORT}/cam"
TURNS = 3
SETTLE = FPS
"""Frames after the first one that say nothing of the steady state."""

Pictures = Iterator[NDArray[np.uint8]]


def by_opencv(address: str) -> Pictures:
    """As the line reads it."""
    with suppress(DataError):
        for item in open_network(address).frames:
            if isinstance(item, Frame):
                yield item.image


def by_pyav(address: str) -> Pictures:
    """PyAV with the same transport and the same timeouts, and its default threads."""
    av: Any = importlib.import_module("av")
    try:
        with av.open(address, options={"rtsp_transport": "tcp"}, timeout=(10, 5)) as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            for frame in container.decode(stream):
                yield frame.to_ndarray(format="bgr24")
    except (av.error.FFmpegError, OSError):
        return


READERS: dict[str, Callable[[str], Pictures]] = {"OpenCV": by_opencv, "PyAV": by_pyav}


def age_ms(picture: NDArray[np.uint8]) -> int:
    """Milliseconds since a picture was made, from the clock in it."""
    height, width = picture.shape[:2]
    columns = picture[height // 8 : height // 4].mean(axis=(0, 2)).reshape(BITS, width // BITS)
    made: int = 0
    for is_white in columns.mean(axis=1) > 128:
        made = 2 * made + int(is_white)
    half = 1 << BITS - 1
    return (int(time.time() * 1000) - made + half) % (2 * half) - half


def read_steadily(reader: Callable[[str], Pictures], seconds: float) -> dict[str, float]:
    """Open, and read for a while."""
    began, cpu = time.monotonic(), time.process_time()
    first_s, ages = 0.0, []
    pictures = reader(ADDRESS)
    for picture in pictures:
        first_s = first_s or time.monotonic() - began
        ages.append(age_ms(picture))
        if time.monotonic() - began > seconds:
            break
    cpu = time.process_time() - cpu
    pictures.close()  # type: ignore[attr-defined]
    steady = np.array(ages[SETTLE:])
    return {
        "first_picture_s": round(first_s, 2),
        "pictures": len(ages),
        "age_p50_ms": float(np.percentile(steady, 50)),
        "age_p95_ms": float(np.percentile(steady, 95)),
        "cpu_ms_a_picture": round(1e3 * cpu / len(ages), 2),
    }


def seconds_to_end(reader: Callable[[str], Pictures], end: Callable[[], None]) -> float:
    """Read a second, let something happen to the server, and read until the reader ends."""
    pictures = reader(ADDRESS)
    until = time.monotonic() + 1.0
    for _ in pictures:
        if time.monotonic() > until:
            break
    end()
    began = time.monotonic()
    for _ in pictures:
        pass
    return round(time.monotonic() - began, 2)


def ends(reader: Callable[[str], Pictures]) -> dict[str, float]:
    """How long a reader takes to notice each kind of failure."""
    found = {}
    for name, number in (("stopped", signal.SIGSTOP), ("killed", signal.SIGKILL)):
        server = start_server(SERVER, PORT, FPS)
        end = partial(server.send_signal, number)
        found[f"server_{name}_s"] = seconds_to_end(reader, end)
        server.kill()
        server.wait()
    with socket.create_server(("127.0.0.1", PORT)):
        began = time.monotonic()
        assert next(reader(ADDRESS), None) is None
        found["never_answers_s"] = round(time.monotonic() - began, 2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="of every turn")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment = describe_machine()
    packages = {"av": importlib.import_module("av").__version__}
    cv2.setNumThreads(1)
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in READERS}
    server = start_server(SERVER, PORT, FPS)
    with LoadWatch() as watch:
        for _ in range(TURNS):
            for name, reader in READERS.items():
                rows[name].append(read_steadily(reader, options.seconds))
                print(name, rows[name][-1], file=sys.stderr)
    server.kill()
    server.wait()
    result = {
        "schema_version": 1,
        "study": "network readers",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "packages": environment["packages"] | packages,
        "picture": {"size": [1280, 720], "fps": FPS, "codec": "H.264"},
        "turns": rows,
        "ends": {name: ends(reader) for name, reader in READERS.items()},
        "load": watch.load.other_cores,
    }
    path = result_file(options.out, "network-readers", environment["device"])
    write_json(path, result)
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
