"""Every bad input at the command line: what is wrong, the next step, the documented exit code.

Ctrl-C and SIGTERM are in test_train.py and stream/test_command.py, a disk that fills up during
training, streaming or a video in test_train.py, test_loop.py and test_sinks.py.
"""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny import TINY, save_discs

from dad_edge import bundle as bundles
from dad_edge.bundle import DENOISER, THRESHOLDS, Bundle
from dad_edge.cli import main as cli
from dad_edge.config import Recipe

Told = tuple[int, str]
Run = Callable[..., Told]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process: its exit code, and what it said on stderr."""

    def command(*arguments: str | Path) -> Told:
        monkeypatch.setattr(sys, "argv", ["dad-edge", *map(str, arguments)])
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
        return code, capfd.readouterr().err

    earlier = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield command  # type: ignore[misc]
    for number, handler in earlier.items():
        signal.signal(number, handler)


def assert_told(told: Told, code: int, error: str, next_step: str) -> None:
    assert told[0] == code, told[1]
    *_, first, last = told[1].strip().splitlines()
    assert re.match(f"error: .*{error}", first), told[1]
    assert re.match(f"next: .*{next_step}", last), told[1]


def write_image(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode(".png", image)[1].tobytes())


def test_no_such_camera(run: Run, tiny_bundle: Bundle) -> None:
    told = run("stream", "--camera", 97, "--bundle", tiny_bundle.path)
    assert_told(told, 3, "there is no camera 97", "plug in a camera")


@pytest.mark.parametrize(("command", "option"), [("calibrate", "--data"), ("stream", "--source")])
def test_an_unreadable_folder(
    run: Run, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    command: str, option: str,
) -> None:  # fmt: skip
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refuse)
    monkeypatch.setattr(Path, "iterdir", refuse)
    told = run(command, option, tmp_path, "--bundle", tiny_bundle.path)
    assert_told(told, 3, f"cannot read folder {tmp_path}", "check its permissions")


def test_a_file_that_may_not_be_read(
    run: Run, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(bundles, "sha256_of", refuse)
    told = run("stream", "--source", "demo://?parts=1", "--bundle", tiny_bundle.path)
    assert_told(told, 3, f"{DENOISER}: permission denied", "change its owner or permissions")


@pytest.mark.parametrize(
    ("command", "option", "error"),
    [("calibrate", "--data", "has no images where"), ("stream", "--source", "has no images")],
)
def test_an_empty_folder(
    run: Run, tiny_bundle: Bundle, tmp_path: Path, command: str, option: str, error: str
) -> None:
    (tmp_path / "empty").mkdir()
    told = run(command, option, tmp_path / "empty", "--bundle", tiny_bundle.path)
    assert_told(told, 3, error, "put images")


def test_a_truncated_image(run: Run, tiny_bundle: Bundle, tmp_path: Path) -> None:
    broken = save_discs(tmp_path / "data", 2) / "train" / "good" / "001.png"
    broken.write_bytes(broken.read_bytes()[:200])
    told = run("calibrate", "--data", tmp_path / "data", "--bundle", tiny_bundle.path)
    assert_told(told, 3, "001.png is truncated", "copy the file again or remove it")
    told = run("stream", "--source", broken.parent, "--bundle", tiny_bundle.path)
    assert_told(told, 3, "1 of 2 pictures could not be read", ".*copy the file again")


def test_images_of_every_kind_are_inspected(
    run: Run, tiny_bundle: Bundle, tmp_path: Path, dark_frame: np.ndarray
) -> None:
    images = {
        "16-bit": dark_frame.astype(np.uint16) * 257,
        "grey": dark_frame[:, :, 0],
        "rgba": np.dstack([dark_frame, dark_frame[:, :, :1]]),
        "smaller": dark_frame[:9, :7],
    }
    for name, image in images.items():
        write_image(tmp_path / "parts" / f"{name}.png", image)
    code, said = run("stream", "--source", tmp_path / "parts", "--bundle", tiny_bundle.path)
    assert code == 0, said
    assert "4 frames inspected: 4 good." in said
    assert said.count("smaller.png is 7×9 pixels, smaller than the model's 32×32") == 1


def test_a_wrong_layout(run: Run, tiny_bundle: Bundle, tmp_path: Path) -> None:
    write_image(tmp_path / "data" / "pictures" / "a.png", np.zeros((8, 8), np.uint8))
    told = run("evaluate", "--data", tmp_path / "data", "--bundle", tiny_bundle.path)
    assert_told(
        told, 3, "known layout.*it holds: pictures", "put images of good parts in train/good"
    )


def test_a_checkpoint_of_another_size(run: Run, tmp_path: Path) -> None:
    from dad_edge.model.checkpoint import WEIGHTS, write_recipe, write_tensors
    from dad_edge.model.detector import Detector

    wider = replace(TINY, segmenter=replace(TINY.segmenter, base_width=8))
    write_recipe(tmp_path / "run", Recipe(model=wider))
    write_tensors(tmp_path / "run" / WEIGHTS, Detector(TINY).state_dict(), {})
    told = run("export", "--checkpoint", tmp_path / "run", "--out", tmp_path / "bundle")
    assert_told(told, 4, "does not fit the size 'nano'", "keep recipe.toml and model.safetensors")
    assert not (tmp_path / "bundle").exists()


def test_a_bundle_with_a_changed_file(run: Run, tiny_bundle: Bundle) -> None:
    with (tiny_bundle.path / DENOISER).open("ab") as file:
        file.write(b"x")
    told = run("stream", "--source", "demo://?parts=1", "--bundle", tiny_bundle.path)
    assert_told(told, 4, f"{DENOISER} was changed", "copy the whole bundle again")


@pytest.mark.parametrize(
    ("number", "reason"),
    [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "the file system is read-only")],
)
def test_a_disk_that_takes_no_file(
    run: Run, tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    number: int, reason: str,
) -> None:  # fmt: skip
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    before = (tiny_bundle.path / THRESHOLDS).read_bytes()
    data = save_discs(tmp_path / "data", 2)
    monkeypatch.setattr(os, "fsync", refuse)
    told = run("calibrate", "--data", data, "--bundle", tiny_bundle.path)
    assert_told(told, 7, f"cannot write .*{THRESHOLDS}: {reason}", "choose a")
    assert (tiny_bundle.path / THRESHOLDS).read_bytes() == before


@pytest.mark.parametrize("arguments", [["doctor", "--json"], ["--help"], ["--version"]])
def test_what_cannot_be_printed_is_a_storage_error(arguments: list[str]) -> None:
    command = [sys.executable, "-m", "dad_edge", *arguments]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    told = (done.returncode, done.stderr)
    assert_told(told, 7, "cannot write to stdout: the disk is full", "free some space")


@pytest.mark.parametrize(
    "error",
    [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to ...")],
)
def test_too_little_memory_is_said(
    run: Run, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    from dad_edge.cli import terminal

    def fail(_: str) -> None:
        raise error

    monkeypatch.setattr(terminal, "say", fail)
    told = run("bench", "--bundle", tiny_bundle.path)
    assert_told(told, 6, "memory of this machine is not enough", "close other programs")


def test_sigterm_outside_of_a_loop_unwinds(
    run: Run, tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dad_edge.cli import terminal

    monkeypatch.setattr(terminal, "say", lambda _: signal.raise_signal(signal.SIGTERM))
    told = run("bench", "--bundle", tiny_bundle.path)
    assert_told(told, 143, "terminated", "run the command again")
