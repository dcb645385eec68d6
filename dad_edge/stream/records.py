"""Where results go for machines: JSON lines in a file and on stdout."""

from __future__ import annotations

import logging
import math
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from dad_edge.errors import ReaderLeft, StorageError, writing
from dad_edge.files import encode_json
from dad_edge.scores import score_text
from dad_edge.stream.frames import Unreadable
from dad_edge.stream.results import Result, Sink, Summary

SCHEMA = 1
"""Version of the records."""

_log = logging.getLogger(__name__)


class JsonLinesSink(Sink):
    """One JSON object a line: a header, a record for each frame, a summary.

    Every line is written at once and whole. If the disk fills up in the middle of a line, the part
    that was written is taken back.
    """

    def __init__(self, file: BinaryIO, name: str, threshold: float) -> None:
        """
        Args:
            file: unbuffered; it is closed at the end.
            name: of it, for the error's sentence.
            threshold: image threshold, written into every record.
        """
        self._file = file
        self._name = name
        self._threshold = threshold

    @classmethod
    def create(
        cls, target: Path, header: Mapping[str, Any], threshold: float, *, replace: bool = False
    ) -> JsonLinesSink:
        """A sink that writes into a new file.

        Args:
            target: name of the file.
            header: what the results depend on, written into the first line.
            threshold: image threshold.
            replace: whether an earlier file of that name may be replaced.

        Raises:
            StorageError: the file exists, or cannot be written.
        """
        with writing(target):
            try:
                file = open(target, "wb" if replace else "xb", buffering=0)  # noqa: SIM115
            except FileExistsError as error:
                raise holds_results(target) from error
        sink = cls(file, str(target), threshold)
        try:
            sink.begin(header)
        except StorageError:
            file.close()
            raise
        return sink

    def begin(self, header: Mapping[str, Any]) -> None:
        """Write the first line.

        Raises:
            StorageError: it cannot be written.
        """
        self._line({"record": "header", "schema": SCHEMA, **header})

    def write(self, result: Result) -> None:
        frame, inspection = result.frame, result.inspection
        record: dict[str, Any] = {
            "record": "frame",
            "index": frame.index,
            "name": frame.name,
            "time": frame.time.isoformat(timespec="milliseconds"),
            "score": self._rounded(inspection.score),
            "threshold": self._threshold,
            "verdict": inspection.verdict,
            "latency_ms": round(result.latency_ms, 3),
            "waited_ms": round(result.waited_ms, 3),
            "stage_ms": {stage: round(ms, 3) for stage, ms in inspection.stage_ms.items()},
        }
        if frame.kind is not None:
            record["kind"] = frame.kind
        if inspection.reason is not None:
            record["reason"] = inspection.reason
        self._line(record)

    def skip(self, missing: Unreadable) -> None:
        self._line(
            {
                "record": "error",
                "index": missing.index,
                "name": missing.name,
                "time": missing.time.isoformat(timespec="milliseconds"),
                "error": missing.error.message,
                "next": missing.error.next_step,
            }
        )

    def close(self, summary: Summary) -> None:
        try:
            self._line({"record": "summary", **summary.as_record()})
        finally:
            self._file.close()

    def _rounded(self, score: float) -> float | None:
        return float(score_text(score, self._threshold, 6)) if math.isfinite(score) else None

    def _line(self, record: Mapping[str, Any]) -> None:
        line = encode_json(record)
        with writing(self._name):
            written = 0
            try:
                while written < len(line):
                    written += self._file.write(line[written:])
            except OSError:
                if written and self._file.seekable():
                    self._file.truncate(self._file.tell() - written)
                raise


class StdoutSink(JsonLinesSink):
    """The same lines on stdout, as long as somebody reads them."""

    def __init__(self, header: Mapping[str, Any], threshold: float, *, only: bool) -> None:
        """
        Args:
            header: what the results depend on, written into the first line.
            threshold: image threshold.
            only: whether nothing else takes the results; the run then ends when the reader leaves.

        Raises:
            StorageError: stdout is a file that cannot be written.
        """
        self.reader_left = False
        self._only = only
        closed = sys.stdout is None
        descriptor = os.open(os.devnull, os.O_WRONLY) if closed else os.dup(sys.stdout.fileno())
        super().__init__(os.fdopen(descriptor, "wb", buffering=0), "to stdout", threshold)
        try:
            if closed:
                self._give_up()
            self.begin(header)
        except StorageError:
            self._file.close()
            raise

    def _line(self, record: Mapping[str, Any]) -> None:
        if self.reader_left:
            return
        try:
            super()._line(record)
        except ReaderLeft:
            self._give_up()

    def _give_up(self) -> None:
        self.reader_left = True
        self.wants_stop = self._only
        _log.info("nobody reads the results on stdout any more.")


def holds_results(target: Path) -> StorageError:
    """The error of a run that would have replaced results."""
    return StorageError(
        f"{target} holds the results of an earlier run.",
        "choose another --out, or remove that file first",
    )
