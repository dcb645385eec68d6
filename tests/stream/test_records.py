from __future__ import annotations

import errno
import io
import json
import math
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from stream_results import make_result, missing_picture

from dad_edge.errors import StorageError
from dad_edge.stream.annotate import Annotator
from dad_edge.stream.dashboard import TerminalSink
from dad_edge.stream.records import JsonLinesSink, StdoutSink
from dad_edge.stream.results import Summary


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_json_lines_hold_header_frames_errors_and_summary(tmp_path: Path) -> None:
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {"backend": "tiny"}, 0.5)
    sink.write(make_result())
    sink.write(make_result(1, score=math.nan))
    sink.skip(missing_picture())
    sink.close(Summary(frames=2))
    header, first, second, missing, summary = read_lines(tmp_path / "results.jsonl")
    assert header == {"record": "header", "schema": 1, "backend": "tiny"}
    assert first == {
        "record": "frame",
        "index": 0,
        "name": "0.png",
        "time": "2026-01-02T03:04:05.678+00:00",
        "score": 0.75,
        "threshold": 0.5,
        "verdict": "defect",
        "latency_ms": 3.5,
        "waited_ms": 0.25,
        "stage_ms": {"inject": 1.0, "denoise": 2.0},
        "kind": "dent",
    }
    assert (second["score"], second["verdict"]) == (None, "invalid")
    assert list(second.items())[-1] == ("reason", "the score is not a number")
    assert (missing["record"], missing["index"]) == ("error", 7)
    assert missing["error"] == "7.png is empty."
    assert (summary["record"], summary["frames"]) == ("summary", 2)


def test_every_json_line_is_on_disk_before_the_next_frame(tmp_path: Path) -> None:
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5)
    for index in range(3):
        sink.write(make_result(index))
        assert read_lines(tmp_path / "results.jsonl")[-1]["index"] == index
    sink.close(Summary())


def test_a_full_disk_is_an_error_from_the_first_line() -> None:
    with pytest.raises(StorageError, match=r"/dev/full: the disk is full"):
        JsonLinesSink.create(Path("/dev/full"), {}, 0.5, replace=True)


def test_a_disk_that_fills_up_inside_a_line_leaves_whole_lines(tmp_path: Path) -> None:
    class FillingDisk(io.FileIO):
        room = 400

        def write(self, data: Any) -> int:
            if self.room == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            written = super().write(data[: self.room])
            self.room -= written
            return written

    path = tmp_path / "results.jsonl"
    sink = JsonLinesSink.create(path, {}, 0.5)
    sink._file.close()
    sink._file = FillingDisk(path, "ab")
    sink.write(make_result())
    with pytest.raises(StorageError, match="the disk is full"):
        sink.write(make_result(1))
    assert [line["record"] for line in read_lines(path)] == ["header", "frame"]
    with pytest.raises(StorageError):
        sink.close(Summary())
    assert sink._file.closed


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("precious")
    with pytest.raises(StorageError, match="holds the results of an earlier run"):
        JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5)
    assert (tmp_path / "results.jsonl").read_text() == "precious"
    JsonLinesSink.create(tmp_path / "results.jsonl", {}, 0.5, replace=True).close(Summary())
    assert len(read_lines(tmp_path / "results.jsonl")) == 2


@pytest.mark.parametrize("threshold", [0.13868559, 0.1386855, 0.138686, 0.1386855542])
def test_score_and_verdict_of_a_record_agree(tmp_path: Path, threshold: float) -> None:
    score = float(np.float32(0.13868555))
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {}, threshold)
    sink.write(make_result(score=score))
    sink.close(Summary())
    record = read_lines(tmp_path / "results.jsonl")[1]
    assert (record["score"] > record["threshold"]) == (score > threshold)
    assert record["score"] == pytest.approx(score, abs=5e-7)


def test_names_that_are_not_utf8_are_escaped_in_every_sink(tmp_path: Path) -> None:
    result = make_result()
    result = replace(result, frame=replace(result.frame, name="a\udcfc.png"))
    missing = replace(missing_picture(), name="b\udcfc.png")
    sink = JsonLinesSink.create(tmp_path / "results.jsonl", {"source": "\udcfc"}, 0.5)
    text = io.StringIO()
    for taker in (sink, TerminalSink(3, 0.5, Console(file=text, width=100))):
        taker.write(result)
        taker.skip(missing)
        taker.close(Summary())
    header, frame, error, _ = read_lines(tmp_path / "results.jsonl")
    assert header["source"] == r"\xfc"
    assert (frame["name"], error["name"]) == (r"a\xfc.png", r"b\xfc.png")
    text.getvalue().encode("ascii")
    assert Annotator(0.5, 0.5).draw(result).any()


def closed_pipe() -> io.TextIOWrapper:
    """A text stream into a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "w")


@pytest.mark.parametrize("only", [True, False])
def test_a_reader_that_leaves_ends_the_run_where_nothing_else_takes_the_results(
    monkeypatch: pytest.MonkeyPatch, only: bool
) -> None:
    with closed_pipe() as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        sink = StdoutSink({}, 0.5, only=only)
        sink.write(make_result())
        sink.skip(missing_picture())
        sink.close(Summary())
    assert (sink.reader_left, sink.wants_stop) == (True, only)


def test_a_stdout_that_was_never_open_is_as_one_that_nobody_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    sink = StdoutSink({}, 0.5, only=True)
    sink.close(Summary())
    assert sink.wants_stop
