"""A pulse on a coil of a PLC when a part is rejected (Modbus TCP)."""

from __future__ import annotations

import time
from datetime import datetime, timezone
from types import ModuleType
from typing import Any

from dad_edge.errors import DadEdgeError, StorageError, require
from dad_edge.line.records import RecordSink
from dad_edge.line.settings import PulseSettings

_TIMEOUT_S = 1.0
_STALE_S = 5.0
"""A pulse this late would hit another part; it is left out."""


class RejectPulse(RecordSink):
    """Switches the coil on, waits, switches it off; one pulse a rejected part."""

    name = "pulse"

    def __init__(self, settings: PulseSettings) -> None:
        """
        Raises:
            MissingDependency: pymodbus is not installed.
        """
        client: ModuleType = require("pymodbus.client", "modbus", "send pulses to a PLC")
        self._settings = settings
        self._client: Any = client.ModbusTcpClient(
            settings.host, port=settings.port, timeout=_TIMEOUT_S, retries=0
        )
        self.latest_ms = 0.0
        """From the latest rejected frame's verdict to the PLC's answer that the coil is on."""

    def take(self, record: dict[str, Any]) -> None:
        settings = self._settings
        if record["record"] != "frame" or not record["rejected"]:
            return
        if settings.cameras and record["camera"] not in settings.cameras:
            return
        late_s = _age(record) - (record["latency_ms"] + record["waited_ms"]) / 1000
        if late_s > _STALE_S:
            raise DadEdgeError(  # not to be tried again
                f"a reject pulse was {late_s:.1f} s late and was left out.",
                "look at the PLC's connection",
            )
        time.sleep(max(0.0, settings.delay_ms / 1000 - _age(record)))
        self._set(True)
        self.latest_ms = max(
            0.0, 1000 * (_age(record)) - record["latency_ms"] - record["waited_ms"]
        )
        try:
            time.sleep(settings.milliseconds / 1000)
        finally:
            self._set(False)

    def close(self) -> None:
        self._client.close()

    def _set(self, on: bool) -> None:
        settings = self._settings
        where = f"the PLC {settings.host}:{settings.port}"
        try:
            if not self._client.connected and not self._client.connect():
                raise StorageError(
                    f"{where} is not connected.", "switch it on, or check its address"
                )
            answer = self._client.write_coil(settings.coil, on, device_id=settings.unit)
        except StorageError:
            raise
        except Exception as error:  # pymodbus raises its own and those of sockets
            self._client.close()
            raise StorageError(
                f"{where} does not answer: {error}.", "check its connection"
            ) from error
        if answer.isError():
            raise StorageError(
                f"{where} refused coil {settings.coil}: {answer}.", "check coil and unit"
            )


def _age(record: dict[str, Any]) -> float:
    """Seconds since the frame was read."""
    read = datetime.fromisoformat(record["time"])
    return (datetime.now(timezone.utc) - read).total_seconds()
