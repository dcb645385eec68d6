from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from judged_frames import BEGAN, event, judged

from dad_edge.errors import StorageError
from dad_edge.line.records import record_of
from dad_edge.line.settings import JsonLinesSettings
from dad_edge.line.sinks.jsonl import CURRENT, JsonLines, repair_last_line

KILLED = """
import sys
from pathlib import Path
from dad_edge.line.settings import JsonLinesSettings
from dad_edge.line.sinks.jsonl import JsonLines
sink = JsonLines(Path(sys.argv[1]), JsonLinesSettings(fsync="never"))
number = 0
while True:
    sink.take({"record": "frame", "index": number, "filler": "x" * 3000})
    number += 1
    print(number, flush=True)
"""


def records(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def opened(folder: Path, **settings: object) -> JsonLines:
    return JsonLines(folder, JsonLinesSettings(**settings), clock=lambda: BEGAN.timestamp())  # type: ignore[arg-type]


def test_every_record_is_a_line_and_a_restart_goes_on(tmp_path: Path) -> None:
    for run in range(2):
        sink = opened(tmp_path)
        sink.write(judged(run))
        sink.event(event())
        sink.close()
    kinds = [record["record"] for record in records(tmp_path / CURRENT)]
    assert kinds == ["file", "frame", "event", "frame", "event"]
    assert records(tmp_path / CURRENT)[1] == record_of(judged(0))


@pytest.mark.parametrize("torn", [b'{"record": "fra', b'{"a": 1}', b"x" * 100_000])
def test_a_torn_last_line_is_cut_off_at_the_start(tmp_path: Path, torn: bytes) -> None:
    sink = opened(tmp_path)
    sink.write(judged(1))
    sink.close()
    whole = (tmp_path / CURRENT).read_bytes()
    (tmp_path / CURRENT).write_bytes(whole + torn)
    sink = opened(tmp_path)
    sink.write(judged(2))
    sink.close()
    assert (tmp_path / CURRENT).read_bytes().startswith(whole + b'{"record": "frame"')
    assert len(records(tmp_path / CURRENT)) == 3


def test_repairing_says_whether_there_was_something(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    assert not repair_last_line(path)
    for content, whole in ((b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"b", b"")):
        path.write_bytes(content)
        assert repair_last_line(path) == (content != whole)
        assert path.read_bytes() == whole


def test_files_are_rotated_by_size_and_the_oldest_removed(tmp_path: Path) -> None:
    sink = opened(tmp_path, megabytes=0.002, files=3)
    for number in range(40):
        sink.write(judged(number))
    sink.close()
    files = sorted(tmp_path.glob("results*.jsonl"))
    assert len(files) == 3
    assert all(path.stat().st_size <= 2000 for path in files)
    kept = [r["index"] for p in files for r in records(p) if "index" in r]
    assert sorted(kept) == list(range(40 - len(kept), 40))


def test_files_are_rotated_by_age_and_when_the_clock_goes_back(tmp_path: Path) -> None:
    clock = [BEGAN.timestamp()]
    sink = JsonLines(tmp_path, JsonLinesSettings(hours=1), clock=lambda: clock[0])
    for after, files in ((0, 1), (3599, 1), (3601, 2), (100, 3)):
        clock[0] = BEGAN.timestamp() + after
        sink.write(judged(1))
        assert len(list(tmp_path.glob("results*.jsonl"))) == files
    sink.close()


def test_a_full_disk_leaves_no_half_line_and_the_call_may_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = opened(tmp_path)
    write, calls = os.write, 0

    def fills_up(handle: int, content: bytes) -> int:
        nonlocal calls
        calls += 1
        if calls == 1:
            return write(handle, bytes(content)[:20])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fills_up)
    with pytest.raises(StorageError, match="disk is full"):
        sink.write(judged(1))
    monkeypatch.setattr(os, "write", write)
    sink.write(judged(1))
    sink.close()
    assert [record["record"] for record in records(tmp_path / CURRENT)] == ["file", "frame"]


def test_after_kill_9_all_but_the_last_record_are_there(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told = 0
        for line in process.stdout:
            told = int(line)
            if told == 200:
                process.send_signal(signal.SIGKILL)
                break
        told = max([told, *(int(line) for line in process.stdout)])
    opened(tmp_path).close()
    indices = [record["index"] for record in records(tmp_path / CURRENT)[1:]]
    assert indices == list(range(len(indices)))
    assert len(indices) >= told
