"""Records as JSON lines, in files that are rotated by size and age."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dad_edge.errors import writing
from dad_edge.files import encode_json
from dad_edge.line.records import SCHEMA, RecordSink
from dad_edge.line.settings import JsonLinesSettings

CURRENT = "results.jsonl"
_TAIL = 1 << 16


class JsonLines(RecordSink):
    """Every record a line, written at once and whole: after `kill -9` none is torn."""

    name = "jsonl"

    def __init__(
        self,
        folder: Path,
        settings: JsonLinesSettings,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Args:
            folder: of the files; the one in use is `results.jsonl`.
            settings: when to rotate, how many to keep, when to force onto the disk.
            clock: seconds since 1970.

        Raises:
            StorageError: the file cannot be opened.
        """
        self._folder, self._path = folder, folder / CURRENT
        self._settings = settings
        self._clock = clock
        self._handle = -1
        self._unsynced = False
        self._synced_at = time.monotonic()
        with writing(self._path):
            folder.mkdir(parents=True, exist_ok=True)
            repair_last_line(self._path)
        self._open()

    def take(self, record: dict[str, Any]) -> None:
        line = encode_json(record)
        if self._is_due(len(line)):
            self._rotate()
        with writing(self._path):
            self._append(line)
            self._unsynced = True
            every = self._settings.fsync
            if every == "record" or (every == "second" and self._is_sync_due()):
                self._sync()

    def flush(self) -> None:
        if self._unsynced and self._settings.fsync == "second" and self._is_sync_due():
            with writing(self._path):
                self._sync()

    def close(self) -> None:
        if self._handle < 0:
            return
        try:
            with writing(self._path):
                os.fsync(self._handle)
        finally:
            os.close(self._handle)
            self._handle = -1

    def _append(self, line: bytes) -> None:
        before = os.fstat(self._handle).st_size
        try:
            left = memoryview(line)
            while left:  # of a line that a full disk cuts, the rest raises
                left = left[os.write(self._handle, left) :]
        except OSError:
            os.ftruncate(self._handle, before)
            raise

    def _is_sync_due(self) -> bool:
        return time.monotonic() - self._synced_at >= 1

    def _sync(self) -> None:
        os.fdatasync(self._handle)
        self._unsynced = False
        self._synced_at = time.monotonic()

    def _open(self) -> None:
        with writing(self._path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
            self._handle = os.open(self._path, flags, 0o666)
            self._begun = _begun_at(self._path) or self._clock()
            if os.fstat(self._handle).st_size == 0:
                began = datetime.fromtimestamp(self._clock(), timezone.utc)
                header = {"record": "file", "schema": SCHEMA, "time": began.isoformat()}
                self._append(encode_json(header))

    def _is_due(self, more: int) -> bool:
        size = os.fstat(self._handle).st_size
        too_large = size + more > self._settings.megabytes * 1e6
        age = self._clock() - self._begun
        return too_large or not 0 <= age < self._settings.hours * 3600

    def _rotate(self) -> None:
        self.close()
        begun = datetime.fromtimestamp(self._begun, timezone.utc)
        with writing(self._path):
            os.replace(self._path, _free(self._folder, f"results-{begun:%Y%m%dT%H%M%SZ}"))
            older = sorted(self._folder.glob("results-*.jsonl"))
            for path in older[: len(older) - self._settings.files + 1]:
                path.unlink(missing_ok=True)
        self._open()


def repair_last_line(path: Path) -> bool:
    """Cut off a last line that was not written to its end.

    Returns:
        Whether there was one.

    Raises:
        OSError: the file cannot be read or changed.
    """
    if not path.exists():
        return False
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _TAIL)
            file.seek(start)
            block = file.read(end - start)
            whole = block.rfind(b"\n") + 1
            if whole or not start:
                torn = start + whole < file.seek(0, os.SEEK_END)
                file.truncate(start + whole)
                return torn
            end = start
    return False


def _begun_at(path: Path) -> float | None:
    """When a file's first record was written, or None."""
    with path.open("rb") as file:
        first = file.readline(_TAIL)
    try:
        time_of = json.loads(first)["time"]
        return datetime.fromisoformat(time_of).timestamp()
    except (ValueError, KeyError, TypeError):
        return None


def _free(folder: Path, stem: str) -> Path:
    """A name that comes after all of this stem in the order of the alphabet."""
    taken = [int(path.stem.rpartition("-")[2]) for path in folder.glob(f"{stem}-[0-9]*.jsonl")]
    return folder / f"{stem}-{max(taken, default=0) + 1:06d}.jsonl"
