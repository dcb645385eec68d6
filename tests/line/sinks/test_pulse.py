from __future__ import annotations

import socketserver
import struct
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest
from judged_frames import judged

from dad_edge.errors import DadEdgeError, StorageError
from dad_edge.line.settings import PulseSettings
from dad_edge.line.sinks.pulse import RejectPulse

pymodbus = pytest.importorskip("pymodbus")


class Plc:
    """A PLC that speaks Modbus TCP and notes what happens to coil 7 of unit 3."""

    def __init__(self) -> None:
        self.changes: list[tuple[float, bool]] = []
        outer = self

        class Talk(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                # Transaction, protocol, length, unit; function 5 writes a coil: address, FF00 or 0.
                while len(request := self.rfile.read(12)) == 12:
                    *_, unit, function, coil, value = struct.unpack(">HHHBBHH", request)
                    assert (unit, function, coil) == (3, 5, 7)
                    assert value in (0, 0xFF00)
                    outer.changes.append((time.monotonic(), value > 0))
                    self.wfile.write(request)  # which is how a PLC confirms

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Talk)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def plc() -> Iterator[Plc]:
    running = Plc()
    yield running
    running.close()


def fresh(number: int, score: float = 0.9, ago_s: float = 0.0, camera: str = "left"):  # type: ignore[no-untyped-def]
    at = datetime.now(timezone.utc) - timedelta(seconds=ago_s)
    return judged(number, score=score, time=at, camera=camera)


def settings(plc: Plc, **more: object) -> PulseSettings:
    return PulseSettings(host="127.0.0.1", port=plc.port, coil=7, unit=3, **more)  # type: ignore[arg-type]


def test_a_rejected_part_is_a_pulse_of_its_length(plc: Plc) -> None:
    sink = RejectPulse(settings(plc, milliseconds=50))
    for number, score in ((1, 0.1), (2, 0.9), (3, 0.2)):
        sink.write(fresh(number, score, ago_s=0.1))
    assert [on for _, on in plc.changes] == [True, False]
    assert plc.changes[1][0] - plc.changes[0][0] >= 0.05
    assert 0 < sink.latest_ms < 30_000
    sink.close()


def test_a_pulse_waits_for_its_part(plc: Plc) -> None:
    sink = RejectPulse(settings(plc, milliseconds=1, delay_ms=300))
    began = time.monotonic()
    sink.write(fresh(1))
    assert plc.changes[0][0] - began >= 0.25
    sink.close()


def test_other_cameras_are_not_its_business(plc: Plc) -> None:
    sink = RejectPulse(settings(plc, milliseconds=1, cameras=("right",)))
    sink.write(fresh(1))
    assert plc.changes == []
    sink.write(fresh(2, camera="right"))
    assert [on for _, on in plc.changes] == [True, False]
    sink.close()


def test_a_pulse_that_would_hit_another_part_is_left_out(plc: Plc) -> None:
    sink = RejectPulse(settings(plc))
    with pytest.raises(DadEdgeError, match="late") as caught:
        sink.write(fresh(1, ago_s=60))
    assert not isinstance(caught.value, StorageError), "it would be tried again"
    assert plc.changes == []
    sink.close()


def test_a_plc_that_is_gone_is_said() -> None:
    sink = RejectPulse(PulseSettings(host="127.0.0.1", port=9, milliseconds=1))
    with pytest.raises(StorageError, match=r"PLC 127\.0\.0\.1:9"):
        sink.write(fresh(1))
    sink.close()
