from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from judged_frames import event, judged
from stream_results import missing_picture

from dad_edge.errors import UsageError
from dad_edge.line.seams import Judged, LineSink
from dad_edge.line.settings import Secret, SinksSettings, WebhookSettings
from dad_edge.line.sinks.jsonl import CURRENT
from dad_edge.line.sinks.open import Sinks, open_sinks
from dad_edge.line.sinks.store import DATABASE, ResultStore
from dad_edge.stream.frames import Unreadable, now

WORK = """
import sys, itertools, time
from pathlib import Path
from judged_frames import judged
from dad_edge.stream.frames import now
from dad_edge.line.settings import SinksSettings
from dad_edge.line.sinks.open import open_sinks
sinks = open_sinks(SinksSettings(), Path(sys.argv[1]), "line", lambda event: None)
for number in itertools.count(int(sys.argv[2])):
    sinks.write(judged(number, score=0.9 if number % 50 == 0 else 0.1, time=now()))
    print(number, flush=True)
    time.sleep(0.001)
"""


def frames_in(folder: Path) -> list[int]:
    lines = (folder / CURRENT).read_text("utf-8").splitlines()
    return [r["index"] for r in map(json.loads, lines) if r["record"] == "frame"]


def test_everything_is_in_both_stores_once_the_line_has_ended(tmp_path: Path) -> None:
    sinks = open_sinks(SinksSettings(), tmp_path, "line", lambda _: None)
    for number in range(200):
        sinks.write(judged(number, score=0.9 if number % 100 == 7 else 0.1, time=now()))
    sinks.event(event())
    sinks.close()
    assert frames_in(tmp_path) == list(range(200))
    store = ResultStore(tmp_path / DATABASE)
    assert [part.name for part in reversed(store.parts(most=300))] == [
        f"{n}.png" for n in range(200)
    ]
    assert len(list((tmp_path / "flagged").iterdir())) == 2
    assert [(s.name, s.waiting, s.lost) for s in sinks.states()] == [
        ("jsonl", 0, 0),
        ("store", 0, 0),
        ("flagged", 0, 0),
    ]


def test_after_kill_9_a_line_goes_on_with_every_frame_once(tmp_path: Path) -> None:
    support = str(Path(__file__).parents[2] / "support")
    first, told = 0, -1
    for _ in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", f"import sys; sys.path.insert(0, {support!r})\n{WORK}",
             str(tmp_path), str(first)],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            told = int(line)
            if told == first + 300:
                process.send_signal(signal.SIGKILL)
                break
        process.wait()
        told = max([told, *(int(line) for line in process.stdout)])
        process.stdout.close()
        first = told + 1
    open_sinks(SinksSettings(), tmp_path, "line", lambda _: None).close()
    written = frames_in(tmp_path)
    assert len(written) == len(set(written))
    parts = ResultStore(tmp_path / DATABASE).parts(most=10_000)
    in_store = [int(part.name.split(".")[0]) for part in parts]
    assert len(in_store) == len(set(in_store))
    # What still waited in a queue of the process may be missing; it is written within moments.
    for found in (set(written), set(in_store)):
        assert len(set(range(told + 1)) - found) <= 2 * 50


def test_a_sink_that_cannot_be_opened_leaves_none_open(tmp_path: Path) -> None:
    token = Secret(file=str(tmp_path / "missing"))
    before = threading.active_count()
    settings = SinksSettings(webhook=WebhookSettings(url="http://127.0.0.1:9/", token=token))
    with pytest.raises(UsageError, match="missing"):
        open_sinks(settings, tmp_path / "results", "line", lambda _: None)
    assert threading.active_count() == before
    again = open_sinks(SinksSettings(), tmp_path / "results", "line", lambda _: None)
    again.write(judged(1, time=now()))
    again.close()
    until = time.monotonic() + 30
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert frames_in(tmp_path / "results") == [1]


class Named(LineSink):
    """Counts what it takes."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.taken = 0

    def write(self, judged: Judged) -> None:
        self.taken += 1

    def skip(self, camera: str, missing: Unreadable) -> None:
        self.taken += 1


def test_a_camera_can_feed_some_sinks_only() -> None:
    kept = [Named(name) for name in ("jsonl", "store", "flagged", "mqtt")]
    frame = judged(1, score=0.9, time=now())
    sinks = Sinks(kept, lambda _: None, {frame.camera: ["mqtt"]})
    sinks.write(frame)
    sinks.skip(frame.camera, missing_picture())
    sinks.skip("another", missing_picture())
    sinks.close()
    assert {sink.name: sink.taken for sink in kept} == {
        "jsonl": 3,
        "store": 3,
        "flagged": 1,
        "mqtt": 3,
    }
