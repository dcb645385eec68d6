from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from dad_edge.service.notify import Notifier


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd listens at."""
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(path)
        listener.settimeout(30)
        yield listener, path


def test_ready_and_stopping(systemd: tuple[socket.socket, str]) -> None:
    listener, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path})
    notifier.ready("two cameras\nare read")
    assert listener.recv(1000) == b"READY=1\nSTATUS=two cameras are read"
    notifier.stopping()
    assert listener.recv(1000) == b"STOPPING=1"


def test_an_abstract_address_is_understood() -> None:
    name = f"dad-edge-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}")
        listener.settimeout(30)
        Notifier({"NOTIFY_SOCKET": f"@{name}"}).ready("works")
        assert listener.recv(1000).startswith(b"READY=1")


def test_signs_of_life_come_while_there_is_life(systemd: tuple[socket.socket, str]) -> None:
    listener, path = systemd
    notifier = Notifier({"NOTIFY_SOCKET": path, "WATCHDOG_USEC": "40000"})
    assert notifier.watchdog_s == 0.04
    alive = True
    notifier.keep_alive(lambda: alive)
    for _ in range(3):
        assert listener.recv(1000) == b"WATCHDOG=1"
    alive = False
    with contextlib.suppress(TimeoutError):
        for _ in range(3):  # those on their way
            listener.settimeout(0.3)
            listener.recv(1000)
    listener.settimeout(0.5)
    with pytest.raises(TimeoutError):
        listener.recv(1000)
    notifier.stopping()


def test_nothing_happens_without_systemd(tmp_path: Path) -> None:
    for environment in ({}, {"NOTIFY_SOCKET": ""}, {"NOTIFY_SOCKET": str(tmp_path / "gone")},
                        {"NOTIFY_SOCKET": "relative"}, {"WATCHDOG_USEC": "soon"},
                        {"WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}):  # fmt: skip
        notifier = Notifier(environment)
        notifier.ready("works")
        notifier.keep_alive(lambda: True)
        notifier.stopping()
        assert notifier.watchdog_s is None
