from __future__ import annotations

import socket
from pathlib import Path

import pytest

from dad_edge.machine.notify import ALIVE, READY, notify

PATIENCE_S = 30.0


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_gets_the_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, abstract: bool
) -> None:
    name = f"@dad-edge-test-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        manager.settimeout(PATIENCE_S)
        for state in (READY, ALIVE):
            assert notify(state)
            assert manager.recv(100).decode() == state


def test_without_a_service_manager_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify(READY)
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    assert not notify(READY)
