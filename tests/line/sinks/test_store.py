from __future__ import annotations

import math
import sqlite3
from datetime import timedelta
from pathlib import Path

import pytest
from judged_frames import BEGAN, RUN, event, judged

from dad_edge.errors import StorageError, UsageError
from dad_edge.line.settings import StoreSettings
from dad_edge.line.sinks.store import DATABASE, ResultStore, StoreSink, WhatIf


def opened(folder: Path, days: float = 90, at: float = 0) -> StoreSink:
    clock = BEGAN.timestamp() + at
    return StoreSink(folder / DATABASE, StoreSettings(days=days), clock=lambda: clock)


@pytest.fixture
def store(tmp_path: Path) -> ResultStore:
    """Ten parts of `left`, of scores 0.0 to 0.9, and one of `right` that is invalid."""
    sink = opened(tmp_path)
    for number in range(10):
        sink.write(judged(number, score=number / 10, threshold=0.65))
    sink.write(judged(10, camera="right", score=math.nan, verdict="invalid"))
    sink.event(event())
    sink.close()
    return ResultStore(tmp_path / DATABASE)


def names(parts: list[object]) -> list[str]:
    return [part.name for part in parts]  # type: ignore[attr-defined]


def test_parts_come_newest_first_with_what_was_judged(store: ResultStore) -> None:
    parts = store.parts(most=3)
    assert names(parts) == ["10.png", "9.png", "8.png"]  # type: ignore[arg-type]
    part = parts[1]
    assert part.id == f"{RUN}-000000009"
    assert (part.camera, part.verdict, part.rejected) == ("left", "defect", True)
    assert (part.score, part.threshold, part.engine) == (0.9, 0.65, "onnxruntime fp32")
    assert part.time == (BEGAN + timedelta(seconds=9)).timestamp()
    assert (parts[0].score, parts[0].reason) == (None, "no part in view")


def test_parts_are_filtered_and_paged(store: ResultStore) -> None:
    assert len(store.parts(camera="left")) == 10
    assert [p.name for p in store.parts(flagged=True)] == ["10.png", "9.png", "8.png", "7.png"]
    assert [p.name for p in store.parts(verdict="invalid")] == ["10.png"]
    before = store.parts(most=4)[-1].id
    assert [p.name for p in store.parts(before=before, most=2)] == ["6.png", "5.png"]
    assert store.parts(camera="left' or 1=1 --") == []
    assert store.part(f"{RUN}-000000003") == store.parts(most=11)[-4]
    assert store.part("nothing") is None


def test_marks_are_kept_changed_and_taken_back(store: ResultStore) -> None:
    first, second = f"{RUN}-000000008", f"{RUN}-000000002"
    store.mark(first, "fine")
    store.mark(second, "fine")
    store.mark(second, "defect")
    again = ResultStore(store.path)
    assert [(p.id, p.mark) for p in again.parts(mark="any")] == [
        (first, "fine"),
        (second, "defect"),
    ]
    assert [p.id for p in again.parts(mark="defect")] == [second]
    assert len(again.parts(mark="none")) == 9
    again.mark(first, None)
    assert [p.id for p in store.parts(mark="any")] == [second]
    for part, mark in (("nothing", "fine"), (first, "perhaps")):
        with pytest.raises(UsageError):
            store.mark(part, mark)  # type: ignore[arg-type]


def test_what_another_threshold_would_have_done(store: ResultStore) -> None:
    store.mark(f"{RUN}-000000009", "fine")
    store.mark(f"{RUN}-000000002", "defect")
    assert store.what_if("left", 0.45) == WhatIf(10, 3, 5, 1, 1)
    # Equal to the threshold is not above it, and only the latest parts count.
    assert store.what_if("left", 0.7, most=5) == WhatIf(5, 3, 2, 1, 0)
    assert store.what_if("nobody", 0.5) == WhatIf(0, 0, 0, 0, 0)


def test_frames_of_every_hour(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    for number, seconds in enumerate((0, 10, 3600, 3700, 7300)):
        sink.write(judged(number, score=0.9 if number == 3 else 0.1, seconds=seconds))
    sink.close()
    found = ResultStore(tmp_path / DATABASE).hours(2, at=BEGAN.timestamp() + 7300)
    hour = BEGAN.timestamp() // 3600 * 3600
    assert [(r["hour"] - hour, r["verdict"], r["frames"], r["rejected"]) for r in found] == [
        (3600, "defect", 1, 1),
        (3600, "good", 1, 0),
        (7200, "good", 1, 0),
    ]


def test_events_are_found_again(store: ResultStore) -> None:
    [note] = store.notes()
    assert note["kind"] == "offline"
    assert note["details"] == {"attempt": 3}


def test_a_record_that_is_written_again_is_there_once(tmp_path: Path) -> None:
    for _ in range(2):
        sink = opened(tmp_path)
        sink.write(judged(1))
        sink.close()
    assert len(ResultStore(tmp_path / DATABASE).parts()) == 1


def test_old_parts_are_deleted_but_for_those_that_were_marked(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    for number in range(4):
        sink.write(judged(number, seconds=number * 86400))
    sink.event(event())
    sink.close()
    ResultStore(tmp_path / DATABASE).mark(f"{RUN}-000000000", "fine")
    sink = opened(tmp_path, days=2, at=3.5 * 86400)
    sink.flush()
    sink.close()
    store = ResultStore(tmp_path / DATABASE)
    assert [part.name for part in store.parts()] == ["3.png", "2.png", "0.png"]
    assert store.notes() == []


def test_the_page_may_ask_while_the_line_writes(tmp_path: Path) -> None:
    sink = opened(tmp_path)
    store = ResultStore(tmp_path / DATABASE)
    for number in range(20):
        sink.write(judged(number))
        store.mark(f"{RUN}-{number:09d}", "fine")
        assert len(store.parts(mark="fine")) == number + 1
    sink.close()


def test_a_database_of_another_program_is_refused(tmp_path: Path) -> None:
    (tmp_path / DATABASE).write_bytes(b"no database at all, but long enough to look at" * 50)
    with pytest.raises(StorageError, match="not a database"):
        opened(tmp_path)
    with sqlite3.connect(tmp_path / "later.sqlite") as database:
        database.execute("pragma user_version=99")
    with pytest.raises(StorageError, match="another version"):
        ResultStore(tmp_path / "later.sqlite")
