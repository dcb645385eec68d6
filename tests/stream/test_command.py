"""`dad-edge stream` as a user runs it: a process with arguments, signals and an exit code."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from dad_edge.bundle import PACKAGED, Bundle, open_bundle, write_thresholds
from dad_edge.data.layouts import list_items
from dad_edge.deploy.calibrate import calibrate
from dad_edge.errors import ReaderLeft, StorageError, UsageError
from dad_edge.files import sole_writer
from dad_edge.stream import command
from dad_edge.stream.demo import run_demo
from dad_edge.stream.frames import Frame, Frames, Source

PATIENCE_S = 240.0
"""For a process on a busy machine; what is waited for always comes."""
RUN = [sys.executable, "-m", "dad_edge.cli.main", "stream"]


def write_images(folder: Path, frames: dict[str, np.ndarray]) -> None:
    folder.mkdir()
    for name, image in frames.items():
        (folder / name).write_bytes(cv2.imencode(".png", image)[1].tobytes())


def records(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*RUN, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_a_black_frame_is_invalid_with_its_reason(
    tiny_bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray
) -> None:
    good = dark_frame + 20
    write_images(tmp_path / "good", {f"{index}.png": good for index in range(4)})
    calibrate(tiny_bundle, list_items(tmp_path / "good", "train"))
    write_images(tmp_path / "line", {"a.png": good, "b.png": np.zeros_like(good)})
    done = run(
        "--source", tmp_path / "line", "--bundle", tiny_bundle.path, "--out", tmp_path / "out",
        "--json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "results.jsonl").read_text() == done.stdout
    _, part, black, summary = records(done.stdout)
    assert part["verdict"] == "good"
    assert "reason" not in part
    assert black["verdict"] == "invalid"
    assert black["score"] < black["threshold"], "its score alone would have accepted it"
    assert list(black)[-1] == "reason"
    assert black["reason"].startswith("too dark: brightness 0, parts have ")
    assert summary["verdicts"] == {"good": 1, "defect": 0, "invalid": 1}
    assert f"invalid: b.png: {black['reason']}" in done.stderr


def test_a_folder_is_inspected_and_a_damaged_image_is_reported_at_the_end(
    tiny_bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray, bright_frame: np.ndarray
) -> None:
    write_images(tmp_path / "parts", {"a.png": dark_frame, "c.png": bright_frame})
    (tmp_path / "parts" / "b.png").write_bytes((tmp_path / "parts" / "a.png").read_bytes()[:60])
    done = run(
        "--source", tmp_path / "parts", "--bundle", tiny_bundle.path, "--out", tmp_path / "out",
        "--video", "--json",
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert "error: 1 of 3 pictures could not be read" in done.stderr
    assert f"bundle: {tiny_bundle.path} (--bundle)" in done.stderr
    assert "backend: NumPy + ONNX Runtime" in done.stderr
    header, first, damaged, last, summary = records(done.stdout)
    assert (first["verdict"], last["verdict"]) == ("good", "defect")
    assert (damaged["record"], damaged["name"]) == ("error", "b.png")
    assert summary["verdicts"] == {"good": 1, "defect": 1, "invalid": 0}
    assert header["bundle"]["class_name"] == "tiny"
    assert str(tmp_path) not in json.dumps(header["bundle"])
    assert (tmp_path / "out" / "results.jsonl").read_text() == done.stdout
    video = cv2.VideoCapture(str(tmp_path / "out" / "annotated.mp4"))
    assert video.get(cv2.CAP_PROP_FRAME_COUNT) == 2


@pytest.mark.usefixtures("hangup_is_heard")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_ends_the_run_with_complete_files(
    tiny_bundle: Bundle, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        [*RUN, "--source", "demo://", "--bundle", tiny_bundle.path, "--out", out, "--video"],
        stderr=subprocess.PIPE,
        text=True,
    )
    log = out / "results.jsonl"
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline and not (log.exists() and log.read_text().count("\n") > 4):
        time.sleep(0.02)
    process.send_signal(number)
    _, stderr = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == code, stderr
    assert "error: stopped by a signal after" in stderr
    header, *frames, summary = records(log.read_text())
    assert header["record"] == "header"
    assert summary["record"] == "summary"
    assert len(frames) == summary["frames"] > 3
    video = cv2.VideoCapture(str(out / "annotated.mp4"))
    assert sum(1 for _ in iter(lambda: video.read()[0], False)) == len(frames)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--camera N or --source URI"),
        (["--camera", "0", "--source", "demo://", "--video"], "--video inspects one source"),
        (["--source", "demo://", "--source", "demo://", "--json"], "--json inspects one source"),
        (["--source", "demo://", "--web=127.0.0.1:0", "--once"], "--once inspects one source"),
        (["--config", "line.toml", "--engine", "x"], "--engine belongs into line.toml"),
        (["--config", "line.toml", "--source", "demo://"], "--source belongs into line.toml"),
        (["--web", "127.0.0.1:0"], "--camera N or --source URI"),
        (["--source", "demo://", "--video"], "--video needs a folder"),
        (["--source", "demo://", "--max-frames", "0"], "max-frames"),
    ],
)
def test_arguments_that_do_not_fit_end_with_code_2(arguments: list[str], expected: str) -> None:
    from typer.testing import CliRunner

    from dad_edge.cli.main import app

    outcome = CliRunner().invoke(app, ["stream", *arguments])
    told = outcome.output + str(outcome.exception)
    assert expected in told
    code = getattr(outcome.exception, "exit_code", None) or outcome.exit_code
    assert code == 2


def test_stdout_that_is_full_is_a_storage_error(tiny_bundle: Bundle) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*RUN, "--source", "demo://?parts=2", "--bundle", str(tiny_bundle.path), "--json"],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=PATIENCE_S, check=False,
        )  # fmt: skip
    assert done.returncode == 7
    assert "the disk is full" in done.stderr


def test_results_of_an_earlier_run_are_not_overwritten(tiny_bundle: Bundle, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("precious")
    with pytest.raises(StorageError, match="earlier run"):
        command.stream("demo://", lambda: tiny_bundle, out=tmp_path)
    assert (tmp_path / "results.jsonl").read_text() == "precious"


def test_two_runs_do_not_write_into_one_folder(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with sole_writer(tmp_path), pytest.raises(StorageError, match="another dad-edge writes into"):
        command.stream("demo://?parts=1", lambda: tiny_bundle, out=tmp_path)
    with sole_writer(tmp_path), pytest.raises(StorageError, match="another dad-edge writes into"):
        run_demo(tiny_bundle, tmp_path, parts=1)
    command.stream("demo://?parts=1", lambda: tiny_bundle, out=tmp_path)


def test_a_reader_that_left_ends_the_run_unless_the_results_are_kept(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(ReaderLeft):
            command.stream("demo://", lambda: tiny_bundle, json_lines=True)
        source = "demo://?parts=3"
        kept = command.stream(source, lambda: tiny_bundle, json_lines=True, out=tmp_path)
    assert kept.frames == 3


def test_a_folder_that_cannot_be_made_is_a_storage_error(
    tiny_bundle: Bundle, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="a file is in the way"):
        command.stream("demo://", lambda: tiny_bundle, out=tmp_path / "file" / "out")


def test_no_source_is_refused_before_the_bundle_is_opened() -> None:
    def never() -> Bundle:
        raise AssertionError("the bundle was opened")

    with pytest.raises(UsageError, match="needs a source"):
        command.stream(None, never)


def test_max_frames_and_fresh_noise(tiny_bundle: Bundle, capfd: pytest.CaptureFixture[str]) -> None:
    summary = command.stream(
        "demo://", lambda: tiny_bundle, max_frames=3, fresh_noise=True, seed=5, json_lines=True
    )
    header, *frames, last = records(capfd.readouterr().out)
    assert summary.frames == len(frames) == last["frames"] == 3
    assert (header["fresh_noise"], header["seed"]) == (True, 5)


def test_a_bundle_without_thresholds_is_warned_about(
    tiny_bundle: Bundle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bare = shutil.copytree(tiny_bundle.path, tmp_path / "bare")
    (bare / "thresholds.json").unlink()
    command.stream("demo://?parts=1", lambda: open_bundle(bare))
    assert "the bundle has no thresholds" in caplog.text


def test_a_threshold_that_rejects_nothing_is_warned_about(
    tiny_bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    assert tiny_bundle.thresholds is not None
    write_thresholds(tiny_bundle, replace(tiny_bundle.thresholds, image_threshold=1.0))
    command.stream("demo://?parts=1", lambda: open_bundle(tiny_bundle.path))
    assert "not one part will be rejected" in caplog.text


@pytest.mark.parametrize(("live", "demo"), [(True, True), (True, False), (False, True)])
def test_a_camera_that_the_demo_bundle_inspects_is_warned_about(
    live: bool, demo: bool, tiny_bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    def frames() -> Frames:
        yield Frame(dark_frame, "frame-0", 0, datetime.now(timezone.utc))

    path = shutil.copytree(PACKAGED, tmp_path / "copy") if demo else tiny_bundle.path
    monkeypatch.setattr(command, "open_source", lambda *_: Source("camera://0", frames(), live))
    command.stream(0, lambda: open_bundle(Path(path)), max_frames=1)
    assert caplog.text.count("the demo bundle inspects this camera") == (live and demo)


def test_the_environment_names_the_bundle(tiny_bundle: Bundle) -> None:
    done = subprocess.run(
        [*RUN, "--source", "demo://?parts=1"],
        env={**os.environ, "DAD_EDGE_BUNDLE": str(tiny_bundle.path)},
        capture_output=True, text=True, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "(DAD_EDGE_BUNDLE)" in done.stderr


def test_servers_draw_the_noise_by_themselves(tiny_bundle: Bundle) -> None:
    for options in ({"seed": 3}, {"fresh_noise": True}):
        with pytest.raises(UsageError, match="servers draw the noise"):
            command.stream("demo://", lambda: tiny_bundle, engine="triton://a", **options)  # type: ignore[arg-type]
