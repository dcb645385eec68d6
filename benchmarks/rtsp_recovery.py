"""A real RTSP server killed again and again: `python -m benchmarks.rtsp_recovery --times 20`.

GStreamer serves a moving picture. It is killed, stays away for a random time, and comes back.
What is measured is how long after that the first frame is there, and how old frames are when they
are taken. Needs Debian's gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-ugly and python3-gi.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import sys
import threading
import time
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.naming import result_file
from dad_edge.errors import DeviceError
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine
from dad_edge.stream.frames import Frame, now
from dad_edge.stream.sources import open_source
from dad_edge.stream.watch import LONGEST_S, reopened

SERVER = Path(__file__).parents[1] / "tests" / "support" / "rtsp_server.py"
PYTHON = "/usr/bin/python3"
PORT = 18554
STEADY_S, LONGEST_AWAY_S = 3.0, 6.0


def start_server(script: Path, *arguments: object) -> subprocess.Popen[bytes]:
    """A server that answers.

    Args:
        script: for the system's Python; it prints `ready`.
        arguments: of the script.

    Raises:
        DeviceError: GStreamer's RTSP server is not installed.
    """
    process = subprocess.Popen([PYTHON, str(script), *map(str, arguments)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    if process.stdout.readline() != b"ready\n":
        raise DeviceError(
            "GStreamer's RTSP server does not start.", "apt-get install gir1.2-gst-rtsp-server-1.0"
        )
    return process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment, rng = describe_machine(), random.Random(0)
    server = start_server(SERVER, PORT)
    address = f"rtsp://127.0.0.1:{PORT}/cam"
    frames = reopened(open_source(address), lambda: open_source(address)).frames
    ages, rows, taken = [], [], 0

    def take(until: float) -> float:
        """Take frames up to a moment; when the first one of a new opening was there."""
        nonlocal taken
        first = 0.0
        for item in frames:
            if isinstance(item, Frame):
                taken += 1
                ages.append((now() - item.time).total_seconds())
                first = first or time.monotonic()
            if time.monotonic() > until:
                return first
        raise AssertionError("the source has ended")

    take(time.monotonic() + STEADY_S)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    back_at = 0.0
    for number in range(options.times):
        server.kill()
        server.wait()
        away_s = rng.uniform(1, LONGEST_AWAY_S)

        def come_back(seconds: float = away_s) -> None:
            nonlocal server, back_at
            time.sleep(seconds)
            server = start_server(SERVER, PORT)
            back_at = time.monotonic()

        threading.Thread(target=come_back, daemon=True).start()
        killed = time.monotonic()
        # Frames that were on their way come first; what is opened next begins after the return.
        first = take(killed + 0.3)
        first = take(killed + away_s)
        seen = take(time.monotonic() + STEADY_S)
        after_s = (first if first > back_at else seen) - back_at
        rows.append({"away_s": round(away_s, 2), "seen_after_s": round(after_s, 2)})
        print(f"{number + 1}: away {away_s:.1f} s, seen {after_s:.1f} s after", file=sys.stderr)
    server.kill()
    server.wait()
    frames.close()
    result = {
        "study": "rtsp recovery",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "packages": environment["packages"],
        "returns": rows,
        "longest_backoff_s": LONGEST_S,
        "frames": taken,
        "oldest_frame_s": round(max(ages), 3),
        "peak_memory_growth_mib": round(
            (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024, 1
        ),
    }
    path = result_file(options.out, "rtsp-recovery", environment["device"])
    write_json(path, result)
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
