"""Whether those who look on slow the inspection down: `python -m benchmarks.page_load`.

The demo line with its page runs on one core. Its frames a second are counted while nobody
looks, while a hundred slow clients hold a connection each (most follow the live pictures and
read 200 bytes a second, some never finish their request), while one browser's worth of reading
goes on, and in between.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import urlsplit

import dad_edge
from benchmarks.naming import result_file
from dad_edge.files import write_json
from dad_edge.machine.environment import describe_machine

CLIENTS, UNFINISHED = 100, 20
ROUNDS = 3


def frames_of(url: str) -> int:
    """Frames that the line has inspected."""
    with urllib.request.urlopen(f"{url}api/line", timeout=60) as answer:
        return sum(camera["frames"] for camera in json.load(answer)["cameras"])


def rate(url: str, seconds: float) -> float:
    """Frames a second over a while."""
    before, began = frames_of(url), time.monotonic()
    time.sleep(seconds)
    after = frames_of(url)
    return (after - before) / (time.monotonic() - began)


class Clients:
    """Connections that are held until the context ends."""

    def __init__(self, url: str, count: int, unfinished: int, bytes_a_second: int) -> None:
        where = urlsplit(url)
        assert where.hostname is not None
        request = f"GET /live HTTP/1.1\r\nHost: {where.netloc}\r\n\r\n".encode()
        self._amount = bytes_a_second
        self._stop = threading.Event()
        self._sockets = []
        for number in range(count):
            client = socket.create_connection((where.hostname, where.port or 80))
            client.sendall(request[: 20 if number < unfinished else None])
            client.setblocking(False)
            self._sockets.append(client)
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while not self._stop.wait(0.05):
            for client in self._sockets:
                with suppress(OSError):
                    client.recv(max(1, self._amount // 20))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        for client in self._sockets:
            client.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    environment = describe_machine()
    package = str(Path(dad_edge.__file__).resolve().parents[1])
    cores = sorted(os.sched_getaffinity(0))
    rows: dict[str, list[float]] = {"nobody": [], "slow clients": [], "one browser": []}
    with tempfile.TemporaryDirectory() as folder:
        line = subprocess.Popen(
            [sys.executable, "-m", "dad_edge", "demo", "--web", "127.0.0.1:0", "--out", "out"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": package},
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores[:1]),
        )
        os.sched_setaffinity(0, cores[1:] or cores)
        assert line.stderr is not None
        url = next(found[1] for text in line.stderr if (found := re.search(r"page: (\S+)", text)))
        threading.Thread(target=line.stderr.read, daemon=True).start()
        while frames_of(url) < 10:
            time.sleep(0.5)
        for _ in range(ROUNDS):
            rows["nobody"].append(rate(url, options.seconds))
            for name, count, unfinished, bytes_a_second in (
                ("slow clients", CLIENTS, UNFINISHED, 200),
                ("one browser", 1, 0, 10_000_000),
            ):
                clients = Clients(url, count, unfinished, bytes_a_second)
                rows[name].append(rate(url, options.seconds))
                clients.close()
        line.send_signal(signal.SIGTERM)
        line.wait(60)
    means = {name: sum(values) / len(values) for name, values in rows.items()}
    result = {
        "study": "page load",
        "date": datetime.now(timezone.utc).date().isoformat(),
        "device": environment["device"],
        "commit": environment["commit"],
        "packages": environment["packages"],
        "clients": CLIENTS,
        "of_them_unfinished": UNFINISHED,
        "fps": {name: [round(value, 3) for value in values] for name, values in rows.items()},
        "change": {
            name: round(mean / means["nobody"] - 1, 4)
            for name, mean in means.items()
            if name != "nobody"
        },
    }
    path = result_file(options.out, "page-load", environment["device"])
    write_json(path, result)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
