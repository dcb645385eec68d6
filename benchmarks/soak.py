"""A whole line under random faults: `python -m benchmarks.soak --minutes 60`.

A line with its page, three sources, a webhook and, where mosquitto is installed, a broker. At
random a stream goes away and sends damaged pictures, files are cut off, server and broker go
away, the disk fills up (as root, on a file system of its own in memory), the engine fails, the
line's clock jumps (where there is a C compiler), and the line is ended by SIGTERM or kill -9 and
started again. Afterwards both stores are compared, record by record, and memory, threads and
descriptors of the line over each run.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import cv2

import dad_edge
from benchmarks.naming import result_file
from dad_edge.data.demo import line as demo_line
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine

STREAM_PORT, HOOK_PORT, BROKER_PORT, PAGE_PORT = 18081, 18082, 18083, 18084
SAMPLE_S, FAULT_S, AWAY_S = 2.0, 6.0, 8.0
WARM_UP_S = 60.0
QUOTA_GB = 0.02
DISK_MB = 96
LINE = f"""
name = "soak"
folder = "results"
[cameras.stream]
source = "http://127.0.0.1:{STREAM_PORT}/stream"
[cameras.files]
source = "watch://arriving"
[cameras.demo]
source = "demo://?seed=1"
[sinks.jsonl]
megabytes = 1
files = 1000
[sinks.flagged]
gigabytes = {QUOTA_GB}
free_gigabytes = 0.005
[sinks.webhook]
url = "http://127.0.0.1:{HOOK_PORT}/"
"""
BROKER = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
COMPILER = shutil.which("cc") or shutil.which("g++")
START_S = 20.0
"""So long after its start the line can be told to fail."""
JUMPS_S = (-3600, 90, 86_400)


class Server:
    """An HTTP server that comes and goes: pictures for GET, and takes what is sent with POST."""

    def __init__(self, port: int, pictures: list[bytes], rng: random.Random) -> None:
        self._port = port
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
                self.end_headers()
                running = outer.running
                with suppress(OSError):
                    while outer.running is running:
                        picture = rng.choice(pictures)
                        if rng.random() < 0.01:  # damaged in transmission
                            picture = picture[: len(picture) // 2]
                        head = f"--frame\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
                        self.wfile.write(head + picture + b"\r\n")
                        time.sleep(0.1)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                outer.taken += 1
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._handler = Handler
        self.running: ThreadingHTTPServer | None = None
        self.taken = 0

    def start(self) -> None:
        self.running = ThreadingHTTPServer(("127.0.0.1", self._port), self._handler)
        self.running.daemon_threads = True
        threading.Thread(target=self.running.serve_forever, daemon=True).start()

    def stop(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            running.shutdown()
            running.server_close()


class Soak:
    """The line's process, what is around it, and what goes wrong."""

    def __init__(self, work: Path, rng: random.Random) -> None:
        self.work, self._rng = work, rng
        self._pictures = [
            cv2.imencode(".jpg", part.image)[1].tobytes() for part in islice(demo_line(0, 0.2), 40)
        ]
        self._stream = Server(STREAM_PORT, self._pictures, rng)
        self.hook = Server(HOOK_PORT, self._pictures, rng)
        self._broker: subprocess.Popen[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.faults: dict[str, int] = {}
        self.runs: list[list[tuple[float, int, int, int]]] = []
        self.ends: list[tuple[int, float]] = []
        self.ended_by_itself: list[list[str]] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._started = 0.0
        self._files = 0
        self._clock_s = 0
        self.on_own_disk = False

    def prepare(self) -> None:
        (self.work / "arriving").mkdir()
        (self.work / "results").mkdir()
        if os.geteuid() == 0:
            options = ["-t", "tmpfs", "-o", f"size={DISK_MB}m", "tmpfs"]
            mounted = subprocess.run(
                ["mount", *options, str(self.work / "results")], capture_output=True, check=False
            )
            self.on_own_disk = mounted.returncode == 0
        broker = f'[sinks.mqtt]\nhost = "127.0.0.1"\nport = {BROKER_PORT}\n' if BROKER else ""
        (self.work / "line.toml").write_text(LINE + broker)
        (self.work / "broker.conf").write_text(
            f"listener {BROKER_PORT} 127.0.0.1\nallow_anonymous true\n"
        )
        (self.work / "clock").write_bytes(bytes(8))
        if COMPILER is not None:
            source = str(Path(__file__).with_name("soak_clock.c"))
            command = [COMPILER, "-x", "c", "-shared", "-fPIC", "-O2", source]
            subprocess.run([*command, "-o", str(self.work / "clock.so")], check=True)
        self._stream.start()
        self.hook.start()
        self._start_broker()
        self._start_line()

    def finish(self) -> None:
        self._end(signal.SIGTERM)
        self._stream.stop()
        self.hook.stop()
        if self._broker is not None:
            self._broker.kill()
            self._broker.wait()

    def unmount(self) -> None:
        if self.on_own_disk:
            subprocess.run(["umount", str(self.work / "results")], check=False)

    def step(self, calm: bool) -> None:
        """Go on for a moment: what is due comes back, samples are taken, something goes wrong."""
        now = time.monotonic()
        due = [back for at, back in self._later if at <= now]
        self._later = [(at, back) for at, back in self._later if at > now]
        for back in due:
            back()
        self._files += 1
        self._write_file(whole=self._rng.random() > 0.05)
        self._sample()
        if not calm and self._rng.random() < SAMPLE_S / FAULT_S:
            self._fail()

    def _fail(self) -> None:
        is_up = time.monotonic() - self._started > START_S
        weights = {
            "stream": 4,
            "hook": 3,
            "broker": 3 if BROKER else 0,
            "disk": 2 if self.on_own_disk else 0,
            "engine": 2 if is_up else 0,
            "clock": 1 if COMPILER and is_up else 0,
            "SIGTERM": 0.2,
            "kill -9": 0.2,
        }
        [kind] = self._rng.choices(list(weights), list(weights.values()))
        self.faults[kind] = self.faults.get(kind, 0) + 1
        if kind == "stream":
            self._away(self._stream.stop, self._stream.start)
        elif kind == "hook":
            self._away(self.hook.stop, self.hook.start)
        elif kind == "broker" and self._broker is not None:
            self._broker.kill()
            self._broker.wait()
            self._away(lambda: None, self._start_broker)
        elif kind == "disk":
            filler = self.work / "results" / "filler"
            with suppress(OSError), filler.open("wb") as file:
                while True:
                    file.write(bytes(1 << 16))
            self._away(lambda: None, lambda: filler.unlink(missing_ok=True))
        elif kind == "engine" and self._process is not None:
            self._process.send_signal(signal.SIGUSR1)
        elif kind == "clock":
            self._set_clock(self._clock_s + self._rng.choice(JUMPS_S))
        else:
            self._end(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)
            self._start_line()

    def _away(self, stop: Callable[[], None], back: Callable[[], None]) -> None:
        busy = {id(getattr(each, "__self__", each)) for _, each in self._later}
        if id(getattr(back, "__self__", back)) in busy:
            return
        stop()
        self._later.append((time.monotonic() + self._rng.uniform(1, AWAY_S), back))

    def _write_file(self, whole: bool) -> None:
        content = self._rng.choice(self._pictures)
        path = self.work / "arriving" / f"{self._files:06d}.jpg"
        path.write_bytes(content if whole else content[: len(content) // 3])
        for old in sorted((self.work / "arriving").glob("*.jpg"))[:-50]:
            old.unlink()

    def _start_broker(self) -> None:
        if BROKER is not None:
            command = [BROKER, "-c", str(self.work / "broker.conf")]
            self._broker = subprocess.Popen(command, stderr=subprocess.DEVNULL)

    def _set_clock(self, seconds: int) -> None:
        self._clock_s = seconds
        with (self.work / "clock").open("r+b") as file:
            file.write(seconds.to_bytes(8, sys.byteorder, signed=True))

    def _start_line(self) -> None:
        command = [sys.executable, "-m", "benchmarks.soak_line", "stream", "--config", "line.toml"]
        package = str(Path(dad_edge.__file__).resolve().parents[1])
        with (self.work / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, "--web", f"127.0.0.1:{PAGE_PORT}"],
                cwd=self.work,
                env={**os.environ, **self._clock(), "PYTHONPATH": package},
                stderr=log,
                stdout=log,
            )
        self._started = time.monotonic()
        self.runs.append([])

    def _clock(self) -> dict[str, str]:
        """What has the line see a clock that can jump."""
        if COMPILER is None:
            return {}
        return {
            "LD_PRELOAD": str(self.work / "clock.so"),
            "SOAK_CLOCK": str(self.work / "clock"),
        }

    def _end(self, number: signal.Signals) -> None:
        assert self._process is not None
        began = time.monotonic()
        self._process.send_signal(number)
        code = self._process.wait(60)
        if number == signal.SIGTERM:
            self.ends.append((code, round(time.monotonic() - began, 2)))

    def _sample(self) -> None:
        assert self._process is not None
        if self._process.poll() is not None:
            said = (self.work / "log").read_text(errors="replace").splitlines()
            self.ended_by_itself.append([line for line in said if line.startswith("error:")][-1:])
            self._start_line()
            return
        proc = Path("/proc") / str(self._process.pid)
        with suppress(OSError):
            status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
            self.runs[-1].append(
                (
                    time.monotonic() - self._started,
                    int(status["VmRSS"].split()[0]),
                    int(status["Threads"]),
                    len(list((proc / "fd").iterdir())),
                )
            )


def compare_stores(results: Path) -> dict[str, Any]:
    """Whether both stores hold the same frames, each once, without a gap in any run."""
    files = [*results.glob("results-*.jsonl"), results / "results.jsonl"]
    lines = [json.loads(line) for path in files for line in path.read_text().splitlines()]
    ids = [record["id"] for record in lines if record["record"] == "frame"]
    with closing(sqlite3.connect(results / "results.sqlite")) as database:
        stored = [row[0] for row in database.execute("select id from frames")]
    numbers: dict[str, list[int]] = {}
    for each in {*ids, *stored}:
        run, _, number = each.partition("-")
        numbers.setdefault(run, []).append(int(number))
    return {
        "frames": len(ids),
        "events": Counter(record["kind"] for record in lines if record["record"] == "event"),
        "written_twice": len(ids) - len(set(ids)) + len(stored) - len(set(stored)),
        "only_in_jsonl": len(set(ids) - set(stored)),
        "only_in_database": len(set(stored) - set(ids)),
        "missing_numbers": sum(max(n) - min(n) + 1 - len(set(n)) for n in numbers.values()),
        "runs": len(numbers),
    }


def growth(run: list[tuple[float, int, int, int]]) -> dict[str, Any] | None:
    """Memory, threads and descriptors of a run after its warm-up; None if it was short."""
    warm = [sample for sample in run if sample[0] > WARM_UP_S]
    if len(warm) < 30:
        return None
    third = len(warm) // 3
    early, late = warm[:third], warm[-third:]

    def medians(column: int) -> tuple[float, float]:
        return tuple(statistics.median(s[column] for s in part) for part in (early, late))  # type: ignore[return-value]

    memory, threads, descriptors = (medians(column) for column in (1, 2, 3))
    return {
        "minutes": round(run[-1][0] / 60, 1),
        "memory_mib": [round(value / 1024, 1) for value in memory],
        "memory_growth": round(memory[1] / memory[0] - 1, 4),
        "threads": list(threads),
        "descriptors": list(descriptors),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment = describe_machine()
    work = Path(tempfile.mkdtemp(prefix="dad-edge-soak-"))
    soak = Soak(work, random.Random(options.seed))
    soak.prepare()
    try:
        ends_at = time.monotonic() + 60 * options.minutes
        while time.monotonic() < ends_at:
            soak.step(calm=time.monotonic() > ends_at - 2 * AWAY_S)
            time.sleep(SAMPLE_S)
        soak.finish()
        stores = compare_stores(work / "results")
        flagged = sum(p.stat().st_size for p in (work / "results" / "flagged").rglob("*.*"))
    finally:
        soak.unmount()
    result = {
        "study": "soak",
        "minutes": options.minutes,
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "packages": environment["packages"],
        "faults": soak.faults,
        "ended_by_sigterm": [{"exit_code": code, "seconds": s} for code, s in soak.ends],
        "ended_by_itself": soak.ended_by_itself,
        "stores": stores,
        "webhook_requests": soak.hook.taken,
        "flagged_bytes": flagged,
        "flagged_quota_bytes": round(QUOTA_GB * 1e9),
        "runs": [grown for run in soak.runs if (grown := growth(run)) is not None],
    }
    path = result_file(options.out, "soak", environment["device"])
    write_json(path, result)
    print(json.dumps(result, indent=2))
    print(path, file=sys.stderr)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
