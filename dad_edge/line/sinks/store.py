"""Results in an SQLite database: written by one sink, asked by the page and by commands."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from dad_edge.errors import StorageError, UsageError
from dad_edge.line.records import RecordSink
from dad_edge.line.settings import StoreSettings

DATABASE = "results.sqlite"
VERSION = 1
Mark = Literal["fine", "defect"]
MARKS: tuple[Mark, ...] = ("fine", "defect")
MOST_ROWS = 10_000
"""Of an answer."""
_BUSY_S = 5.0
_DELETE_EVERY_S = 60.0
_DELETED_AT_ONCE = 5_000

_TABLES = """
create table if not exists frames (
    id text primary key, camera text not null, time real not null, name text not null,
    verdict text not null, rejected integer not null, score real, threshold real not null,
    engine text not null, latency_ms real not null, reason text, kind text
) without rowid;
create index if not exists frames_of_camera on frames (camera, time);
create index if not exists frames_by_time on frames (time);
create index if not exists frames_not_good on frames (time) where verdict != 'good' or rejected;
create table if not exists notes (
    number integer primary key, time real not null, camera text not null, kind text not null,
    message text not null, record text not null
);
create index if not exists notes_by_time on notes (time);
create table if not exists marks (id text primary key, mark text not null, time real not null)
    without rowid;
"""


@dataclass(frozen=True, slots=True)
class Part:
    """A judged frame as the database has it."""

    id: str
    camera: str
    time: float
    """Seconds since 1970."""
    name: str
    verdict: str
    rejected: bool
    score: float | None
    threshold: float
    engine: str
    latency_ms: float
    reason: str | None
    kind: str | None
    """The truth, where it is known."""
    mark: str | None
    """What a person said it was: `fine` or `defect`."""


_PART = tuple(field.name for field in fields(Part))


@dataclass(frozen=True, slots=True)
class WhatIf:
    """What another threshold would have done to the latest parts of a camera."""

    parts: int
    """With a score; the others stay invalid."""
    above_now: int
    """Frames whose score was above the threshold that held."""
    above_then: int
    """Frames whose score is above the threshold in question."""
    marked_fine_above: int
    """Of those, marked as fine by a person."""
    marked_defect_below: int
    """Marked as a defect, but not above."""


class ResultStore:
    """Answers from the database; may be used from any thread, and while a line writes."""

    def __init__(self, path: Path) -> None:
        """
        Args:
            path: of the database; it is made if it is missing.

        Raises:
            StorageError: it cannot be opened, or is another program's or a later version's.
        """
        self.path = path
        with self._connected() as database:
            database.execute("pragma journal_mode=wal")
            found = database.execute("pragma user_version").fetchone()[0]
            if found not in (0, VERSION):
                raise StorageError(
                    f"{path} was made by another version of the line ({found}).",
                    "name another folder for the results, or use the version that made it",
                )
            database.executescript(_TABLES)
            database.execute(f"pragma user_version={VERSION}")

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        with storing(self.path):
            database = connect(self.path)
            try:
                with database:
                    yield database
            finally:
                database.close()

    def parts(
        self,
        *,
        camera: str = "",
        flagged: bool = False,
        verdict: str = "",
        mark: str = "",
        before: str = "",
        most: int = 100,
    ) -> list[Part]:
        """Parts, newest first.

        Args:
            camera: of this one alone; of all if empty.
            flagged: those alone that were not good or were rejected.
            verdict: with this one alone; with any if empty.
            mark: with this one alone, `any` of them or `none`; whatever they have if empty.
            before: id of a part; older ones alone.
            most: how many at most.
        """
        where, values = ["1"], []
        if camera:
            where.append("camera = ?")
            values.append(camera)
        if flagged:
            where.append("(verdict != 'good' or rejected)")
        if verdict:
            where.append("verdict = ?")
            values.append(verdict)
        if mark in MARKS:
            where.append("mark = ?")
            values.append(mark)
        elif mark:
            where.append(f"mark is {'not ' if mark == 'any' else ''}null")
        if before:
            where.append("(frames.time, frames.id) < ((select time from frames where id = ?), ?)")
            values += [before, before]
        return self._parts(where, values, most)

    def part(self, part: str) -> Part | None:
        """One part by its id; None if there is none."""
        found = self._parts(["frames.id = ?"], [part], 1)
        return found[0] if found else None

    def _parts(self, where: Sequence[str], values: Sequence[Any], most: int) -> list[Part]:
        query = (
            "select frames.id, camera, frames.time, name, verdict, rejected, score, threshold, "
            "engine, latency_ms, reason, kind, mark from frames left join marks "
            f"on marks.id = frames.id where {' and '.join(where)} "
            "order by frames.time desc, frames.id desc limit ?"
        )
        with self._connected() as database:
            rows = database.execute(query, [*values, max(0, min(most, MOST_ROWS))]).fetchall()
        parts = [dict(zip(_PART, row, strict=True)) for row in rows]
        return [Part(**{**part, "rejected": bool(part["rejected"])}) for part in parts]

    def hours(self, hours: int = 24, at: float | None = None) -> list[dict[str, Any]]:
        """Frames of every verdict by hour and camera: `hour` (seconds since 1970), `camera`,
        `verdict`, `frames`, `rejected`; hours without frames are left out.

        Args:
            hours: how many, the running one included.
            at: seconds since 1970 at which the last one runs; now if None.
        """
        last = int((time.time() if at is None else at) // 3600) * 3600
        query = (
            "select cast(time / 3600 as integer) * 3600 as hour, camera, verdict, count(*), "
            "sum(rejected) from frames where time >= ? and time < ? group by 1, 2, 3 order by 1"
        )
        with self._connected() as database:
            rows = database.execute(query, (last - (hours - 1) * 3600, last + 3600)).fetchall()
        names = ("hour", "camera", "verdict", "frames", "rejected")
        return [dict(zip(names, row, strict=True)) for row in rows]

    def notes(self, most: int = 100) -> list[dict[str, Any]]:
        """Records of events and unreadable pictures, newest first."""
        query = "select record from notes order by number desc limit ?"
        with self._connected() as database:
            rows = database.execute(query, (max(0, min(most, MOST_ROWS)),)).fetchall()
        return [json.loads(row[0]) for row in rows]

    def what_if(self, camera: str, threshold: float, most: int = 1000) -> WhatIf:
        """What a threshold would have done to the latest parts of a camera."""
        query = """
            select count(*), coalesce(sum(score > threshold), 0), coalesce(sum(score > ?1), 0),
                   coalesce(sum(score > ?1 and mark = 'fine'), 0),
                   coalesce(sum(score <= ?1 and mark = 'defect'), 0)
            from (select score, threshold, mark from frames left join marks on marks.id = frames.id
                  where camera = ?2 and score is not null order by frames.time desc limit ?3)
        """
        with self._connected() as database:
            row = database.execute(query, (threshold, camera, max(0, min(most, MOST_ROWS))))
            return WhatIf(*row.fetchone())

    def mark(self, part: str, mark: Mark | None) -> None:
        """Keep what a person says a part was; None takes that back.

        Raises:
            UsageError: there is no such part or mark.
            StorageError: it cannot be written.
        """
        if mark is not None and mark not in MARKS:
            raise UsageError(f"{mark!r} is no mark.", f"use one of {', '.join(MARKS)}")
        with self._connected() as database:
            if not database.execute("select 1 from frames where id = ?", (part,)).fetchone():
                raise UsageError(f"there is no part {part!r}.", "take an id from the results")
            if mark is None:
                database.execute("delete from marks where id = ?", (part,))
            else:
                row = (part, mark, time.time())
                database.execute("insert or replace into marks values (?, ?, ?)", row)


class StoreSink(RecordSink):
    """Writes records into the database, each in a transaction of its own."""

    name = "store"

    def __init__(
        self, path: Path, settings: StoreSettings, clock: Callable[[], float] = time.time
    ) -> None:
        """
        Args:
            path: of the database.
            settings: how long records are kept.
            clock: seconds since 1970.

        Raises:
            StorageError: the database cannot be opened.
        """
        self._path = path
        self._settings = settings
        self._clock = clock
        self._deleted_at = -_DELETE_EVERY_S
        with storing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        ResultStore(path)
        with storing(path):
            self._database = connect(path)
            # What a killed process has written stays; only a power failure may take the last.
            self._database.execute("pragma synchronous=normal")

    def take(self, record: dict[str, Any]) -> None:
        with storing(self._path), self._database:
            if record["record"] == "frame":
                self._database.execute(
                    "insert or ignore into frames values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        record["id"],
                        record["camera"],
                        _seconds(record["time"]),
                        record["name"],
                        record["verdict"],
                        record["rejected"],
                        record["score"],
                        record["threshold"],
                        record["engine"],
                        record["latency_ms"],
                        record.get("reason"),
                        record.get("kind"),
                    ),
                )
            else:
                kind = record.get("kind", "unreadable")
                message = record.get("message", record.get("error", ""))
                row = (_seconds(record["time"]), record["camera"], kind, message)
                self._database.execute(
                    "insert into notes (time, camera, kind, message, record) "
                    "values (?, ?, ?, ?, ?)",
                    (*row, json.dumps(record, ensure_ascii=False)),
                )

    def flush(self) -> None:
        if time.monotonic() - self._deleted_at > _DELETE_EVERY_S:
            self._delete_old()

    def close(self) -> None:
        with storing(self._path):
            self._database.execute("pragma wal_checkpoint(truncate)")
            self._database.close()

    def _delete_old(self) -> None:
        self._deleted_at = time.monotonic()
        oldest = self._clock() - self._settings.days * 86400
        with storing(self._path), self._database:
            self._database.execute(
                "delete from frames where id in (select id from frames where time < ? "
                "and id not in (select id from marks) order by time limit ?)",
                (oldest, _DELETED_AT_ONCE),
            )
            self._database.execute(
                "delete from notes where number in "
                "(select number from notes where time < ? order by time limit ?)",
                (oldest, _DELETED_AT_ONCE),
            )


def connect(path: Path) -> sqlite3.Connection:
    """A connection that waits for other writers instead of failing at once."""
    return sqlite3.connect(path, timeout=_BUSY_S, check_same_thread=False)


@contextmanager
def storing(path: Path) -> Iterator[None]:
    """Turn the database's errors into the program's.

    Raises:
        StorageError: instead of `sqlite3.Error` or `OSError`.
    """
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise StorageError(
            f"the database {path} cannot be used: {error}.",
            "check the folder's permissions and the free space of its disk",
        ) from error


def _seconds(time_of: str) -> float:
    return datetime.fromisoformat(time_of).astimezone(timezone.utc).timestamp()
