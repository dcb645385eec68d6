from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from dad_edge.machine.noise import Noise


def test_what_a_decoder_says_by_itself_is_dropped_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    noise = Noise()
    with noise.dropped():
        os.write(2, b"a library of its own program\n")
    noise.can_be_dropped = True
    with noise.dropped():
        os.write(2, b"libpng error\n")
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "a library of its own program\nafterwards\n"


def test_stderr_comes_back_when_the_last_decoder_is_done(capfd: pytest.CaptureFixture[str]) -> None:
    noise = Noise()
    noise.can_be_dropped = True
    inside, leave = threading.Event(), threading.Event()

    def decode() -> None:
        with noise.dropped():
            inside.set()
            leave.wait()

    other = threading.Thread(target=decode)
    other.start()
    inside.wait()
    with noise.dropped():
        os.write(2, b"one\n")
    os.write(2, b"two\n")
    leave.set()
    other.join()
    os.write(2, b"three\n")
    assert capfd.readouterr().err == "three\n"


def test_no_descriptor_is_lost(tmp_path: Path) -> None:
    noise = Noise()
    noise.can_be_dropped = True
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with noise.dropped():
            pass
    assert len(os.listdir("/proc/self/fd")) == before
