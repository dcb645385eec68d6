"""`dad-edge stream` with many cameras as a user runs it: processes, signals and files."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError, StorageError
from dad_edge.files import sole_writer
from dad_edge.line.command import in_words, run_line
from dad_edge.line.config import CameraConfig, LineConfig, line_of
from dad_edge.line.runner import Line

PATIENCE_S = 240.0
"""For a process on a busy machine; what is waited for always comes."""
RUN = [sys.executable, "-m", "dad_edge.cli.main", "stream"]


def write_line(folder: Path, bundle: Bundle, **sources: str) -> Path:
    tables = [
        f"[cameras.{name}]\nsource = {json.dumps(source)}\nbundle = {json.dumps(str(bundle.path))}"
        for name, source in sources.items()
    ]
    path = folder / "line.toml"
    path.write_text("\n".join(['name = "press"', 'folder = "kept"', *tables]), encoding="utf-8")
    return path


def write_images(folder: Path, count: int) -> Path:
    folder.mkdir()
    for index in range(count):
        cv2.imwrite(str(folder / f"{index:02}.png"), np.full((40, 40, 3), 20, np.uint8))
    return folder


def records(kept: Path) -> list[dict[str, Any]]:
    """Whole lines of the log."""
    whole = []
    for line in (kept / "results.jsonl").read_text(encoding="utf-8").splitlines():
        try:
            whole.append(json.loads(line))
        except ValueError:
            assert line is not None, "only the last line may be torn"
    return whole


def ids(kept: Path) -> list[str]:
    return [record["id"] for record in records(kept) if record["record"] == "frame"]


def ids_in_database(kept: Path) -> list[str]:
    with closing(sqlite3.connect(kept / "results.sqlite")) as database:
        return [row[0] for row in database.execute("select id from frames order by id")]


@contextmanager
def started(config: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*RUN, "--config", str(config)], stderr=subprocess.PIPE, text=True, bufsize=1
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_frames(kept: Path, count: int) -> bool:
    return (kept / "results.jsonl").exists() and len(ids(kept)) >= count


def test_a_line_of_files_ends_with_one_record_of_every_frame(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    write_images(tmp_path / "left", 9)
    config = write_line(tmp_path, tiny_bundle, left="left", demo="demo://?parts=7")
    done = subprocess.run(
        [*RUN, "--config", str(config)], capture_output=True, text=True, timeout=PATIENCE_S,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    kept = tmp_path / "kept"
    cameras = Counter(r["camera"] for r in records(kept) if r["record"] == "frame")
    assert cameras == {"left": 9, "demo": 7}
    assert sorted(ids(kept)) == ids_in_database(kept)
    assert "left 9 frames" in done.stderr
    assert "demo 7 frames" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_line_with_everything_written_and_exit_code_0(
    tiny_bundle: Bundle, tmp_path: Path, number: signal.Signals
) -> None:
    config = write_line(tmp_path, tiny_bundle, a="demo://", b="demo://?seed=1")
    kept = tmp_path / "kept"
    with started(config) as process:
        wait_for(lambda: has_frames(kept, 20))
        process.send_signal(number)
        assert process.wait(PATIENCE_S) == 0
    found = ids(kept)
    assert [int(each.rpartition("-")[2]) for each in found] == list(range(1, len(found) + 1))
    assert found == ids_in_database(kept)
    # A slow machine may add that pictures of flagged parts came faster than they could be written.
    others = [record for record in records(kept) if record.get("kind") != "sink"]
    assert others[-1]["kind"] == "stopped"


def test_a_line_that_is_killed_keeps_its_results_and_goes_on(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    config = write_line(tmp_path, tiny_bundle, a="demo://")
    kept = tmp_path / "kept"
    with started(config) as process:
        wait_for(lambda: has_frames(kept, 20))
        process.kill()
        process.wait(PATIENCE_S)
    before = ids(kept)
    assert len(before) >= 20
    with started(config) as process:
        wait_for(lambda: has_frames(kept, len(before) + 5))
        process.terminate()
        assert process.wait(PATIENCE_S) == 0
    after = ids(kept)
    assert after[: len(before)] == before
    assert len(after) == len(set(after))
    assert len({each.partition("-")[0] for each in after}) == 2
    # Each store has all records up to some one: which of them was ahead at the kill is chance.
    first, in_database = before[0].partition("-")[0], ids_in_database(kept)
    for store in (after, in_database):
        numbers = [int(each.rpartition("-")[2]) for each in store if each.startswith(first)]
        assert numbers == list(range(1, len(numbers) + 1))
    second = [[e for e in store if not e.startswith(first)] for store in (after, in_database)]
    assert second[0] == second[1]


def test_two_lines_cannot_write_into_one_folder(tiny_bundle: Bundle, tmp_path: Path) -> None:
    config = line_of(["demo://?parts=1"], folder=tmp_path / "kept", bundle=tiny_bundle.path)
    with sole_writer(tmp_path / "kept"), pytest.raises(StorageError, match="another dad-edge"):
        run_line(config)


def test_a_source_that_broke_off_is_an_error_once_the_others_have_ended(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    good = CameraConfig(
        source=str(write_images(tmp_path / "good", 3)), bundle=str(tiny_bundle.path)
    )
    gone = CameraConfig(source=str(tmp_path / "none"), bundle=str(tiny_bundle.path))
    config = LineConfig(cameras={"good": good, "gone": gone}, folder=str(tmp_path / "kept"))
    with pytest.raises(DataError, match=r"1 of 2 sources broke off; gone: .* does not exist"):
        run_line(config)
    assert len(ids(tmp_path / "kept")) == 3


def test_the_page_is_opened_with_the_line_and_closed_at_the_end(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    log: list[str] = []

    class StandInPage:
        url = "http://127.0.0.1:1/"

        def __init__(self, line: Line) -> None:
            log.append(f"open {line.name} {len(line.cameras())}")

        def close(self) -> None:
            log.append("close")

    config = line_of(
        ["demo://?parts=2", "demo://?parts=2"], folder=tmp_path / "kept", bundle=tiny_bundle.path
    )
    summary = run_line(config, StandInPage)
    assert log == ["open line 2", "close"]
    assert "demo 2 frames, 2 defects; demo-2 2 frames" in in_words(summary)
