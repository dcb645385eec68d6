from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from benchmarks.soak import compare_stores, growth
from dad_edge.files import encode_json


def stores(folder: Path, lines: list[str], rows: list[str]) -> Path:
    event = encode_json({"record": "event", "kind": "clock"})
    content = event + b"".join(encode_json({"record": "frame", "id": each}) for each in lines)
    (folder / "results.jsonl").write_bytes(encode_json({"record": "file"}) + content)
    with closing(sqlite3.connect(folder / "results.sqlite")) as database, database:
        database.execute("create table frames (id text)")
        database.executemany("insert into frames values (?)", [(each,) for each in rows])
    return folder


def test_stores_that_agree(tmp_path: Path) -> None:
    ids = ["a-1", "a-2", "b-1"]
    assert compare_stores(stores(tmp_path, ids, ids)) == {
        "frames": 3,
        "events": {"clock": 1},
        "written_twice": 0,
        "only_in_jsonl": 0,
        "only_in_database": 0,
        "missing_numbers": 0,
        "runs": 2,
    }


def test_stores_that_do_not(tmp_path: Path) -> None:
    found = compare_stores(stores(tmp_path, ["a-1", "a-1", "a-2"], ["a-1", "a-5"]))
    assert found["written_twice"] == 1
    assert (found["only_in_jsonl"], found["only_in_database"]) == (1, 1)
    assert found["missing_numbers"] == 2


def test_growth_after_the_warm_up() -> None:
    run = [(float(at), 100_000 if at < 120 else 105_000, 10, 20) for at in range(181)]
    found = growth(run)
    assert found is not None
    assert found["memory_growth"] == 0.05
    assert found["threads"] == [10, 10]
    assert growth(run[:80]) is None
