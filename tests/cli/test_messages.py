"""Messages never stand in the way of the work, whatever becomes of stdout and stderr."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
import pytest

from dad_edge.bundle import Bundle
from dad_edge.cli import messages
from dad_edge.cli.messages import SteadyStream, say, steady_messages
from dad_edge.cli.terminal import refuse_empty
from dad_edge.errors import UsageError

ROOT = Path(__file__).parents[2]
PARTS = 4


def run(*arguments: str | Path, **streams: Any) -> subprocess.CompletedProcess[str]:
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **streams.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "dad_edge", *map(str, arguments)],
        text=True, timeout=240, check=False, env=environment, **streams,
    )  # fmt: skip


def inspect(bundle: Bundle, out: Path, **streams: Any) -> subprocess.CompletedProcess[str]:
    """Inspect a few parts of the demo line into a folder, and on stdout."""
    source = ("--source", f"demo://?parts={PARTS}", "--bundle", bundle.path)
    return run("stream", *source, "--json", "--out", out, **streams)


def assert_complete(out: Path) -> None:
    lines = (out / "results.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"] for line in lines] == [
        "header", *["frame"] * PARTS, "summary",
    ]  # fmt: skip


def unread_pipe() -> IO[bytes]:
    """The end to write into of a pipe that nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    return open(writer, "wb")


def test_stderr_that_nobody_reads(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with unread_pipe() as pipe:
        assert inspect(tiny_bundle, tmp_path / "out", stderr=pipe).returncode == 0
    assert_complete(tmp_path / "out")


def test_stderr_on_a_full_disk(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        assert inspect(tiny_bundle, tmp_path / "out", stderr=full).returncode == 0
    assert_complete(tmp_path / "out")


def test_stdout_that_nobody_reads_leaves_the_results_complete(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    with unread_pipe() as pipe:
        done = inspect(tiny_bundle, tmp_path / "out", stdout=pipe)
    assert done.returncode == 0
    assert "error" not in done.stderr
    assert_complete(tmp_path / "out")


@pytest.mark.parametrize(
    "command", [("stream", "--source", "demo://?parts=4", "--json"), ("--help",), ("--version",)]
)
def test_a_reader_that_leaves_ends_a_command_without_a_word(command: tuple[str, ...]) -> None:
    with unread_pipe() as pipe:
        done = run(*command, stdout=pipe)
    assert done.returncode == 141
    assert "error" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("closed", ["1", "2", "1 2", "0 1 2"])
def test_streams_that_were_never_open(tiny_bundle: Bundle, tmp_path: Path, closed: str) -> None:
    closing = " ".join(f"{number}>&-" for number in closed.split())
    out = tmp_path / "out"
    arguments = f"--source demo://?parts={PARTS} --bundle {tiny_bundle.path} --json --out {out}"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    line = f"exec {sys.executable} -m dad_edge stream {arguments} {closing}"
    done = subprocess.run(
        ["sh", "-c", line], capture_output=True, text=True, timeout=240, env=environment
    )
    assert done.returncode == 0
    assert_complete(out)
    if "1" not in closed:
        assert done.stdout == (out / "results.jsonl").read_text()
    if "2" not in closed:
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ],
)
def test_names_that_are_not_utf8_in_a_plain_locale(
    tiny_bundle: Bundle, tmp_path: Path, bright_frame: Any, locale: dict[str, str]
) -> None:
    (tmp_path / "parts").mkdir()
    encoded = cv2.imencode(".png", bright_frame)[1].tobytes()
    for name in (b"a\xfc.png", "ü.png".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path / "parts") + b"/" + name)).write_bytes(encoded)
    out = tmp_path / "out"
    done = run(
        "stream", "--source", tmp_path / "parts", "--bundle", tiny_bundle.path, "--out", out,
        "--video", "--json", env=locale,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    names = [json.loads(line).get("name") for line in done.stdout.splitlines()]
    assert names[1] == r"a\xfc.png"
    assert names[2] in ("ü.png", r"\xc3\xbc.png")
    assert done.stderr.isascii()
    assert r"defect: a\xfc.png" in done.stderr


def test_a_damaged_picture_is_told_in_two_lines_without_noise_of_the_decoder(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    for name in ("a.png", "b.jpg", "c.tif"):
        encoded = bytearray(cv2.imencode(name[1:], picture)[1].tobytes())
        middle = len(encoded) // 2
        encoded[middle : middle + 90] = bytes(90)
        (tmp_path / "parts").mkdir(exist_ok=True)
        (tmp_path / "parts" / name).write_bytes(encoded if name != "c.tif" else encoded[:middle])
    done = run("stream", "--source", tmp_path / "parts", "--bundle", tiny_bundle.path)
    words = {line.split(":")[0] for line in done.stderr.splitlines() if "frame" not in line}
    assert words <= {
        "bundle", "backend", "unreadable", "defect", "error", "next",
        "Pictures that could not be read",
    }, done.stderr  # fmt: skip
    assert done.returncode == 3


def test_a_removed_folder_is_said_in_two_lines(tmp_path: Path) -> None:
    line = f"mkdir gone; cd gone; rmdir ../gone; exec {sys.executable} -m dad_edge doctor"
    done = subprocess.run(
        ["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=240,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 3
    said = done.stderr.splitlines()
    assert said[-2] == "error: the current folder does not exist any more."
    assert said[-1] == "next: change to another folder with cd"


@pytest.mark.parametrize(
    "arguments",
    [
        ("stream", "--source", ""),
        ("stream", "--source="),
        ("train", "--data", " "),
        ("evaluate", "--data", ".", "--out", ""),
        ("import", "", "--out", "x"),
    ],
)
def test_an_empty_value_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=r"(the value of --\w+|an argument) is empty"):
        refuse_empty(arguments)


def test_values_that_are_not_empty_pass() -> None:
    refuse_empty(("stream", "--source", "demo://?parts=60", "--video", "--out=x=y"))


def test_a_password_in_a_refused_argument_is_not_printed() -> None:
    done = run("stream", "--camera", "rtsp://admin:secret@camera/live")
    assert done.returncode == 2
    assert "secret" not in done.stderr


def test_the_log_of_the_library_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    log = logging.getLogger("dad_edge.somewhere")
    with steady_messages():
        log.debug("not said")
        log.info("backend: %s", "tiny")
        log.warning("small")
        log.error("large")
    log.warning("after the command")
    assert capsys.readouterr().err == "backend: tiny\nwarning: small\nerror: large\n"


def test_say_survives_a_stream_that_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    for stream in (closed, None):
        monkeypatch.setattr(sys, "stderr", stream)
        say("nobody hears this")


def test_a_message_longer_than_a_pipe_is_written_whole_while_it_is_read(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as file:
        SteadyStream(file).write("ü" * 100_000)
    assert (tmp_path / "log").read_text() == "ü" * 100_000


def test_a_reader_that_stopped_reading_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[int] = []

    class Poll:
        def register(self, descriptor: int, events: int) -> None:
            pass

        def poll(self, timeout_ms: int) -> list[tuple[int, int]]:
            waits.append(timeout_ms)
            return [(0, 0)] if len(waits) == 4 else []

    monkeypatch.setattr(messages.select, "poll", Poll)
    reader, writer = os.pipe()
    with open(writer, "w") as pipe, open(reader):
        stream = SteadyStream(pipe)
        for number in range(5):
            stream.write(f"{number}")
        assert os.read(reader, 100) == b"3"
    patience = messages._PATIENCE_MS
    assert waits == [patience, 0, 0, 0, patience]
