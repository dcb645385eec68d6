"""What a service tells systemd: ready, alive, stopping (the protocol of `sd_notify(3)`)."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Mapping


class Notifier:
    """Sends states to systemd; does nothing where no systemd listens."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        """
        Args:
            environment: with `NOTIFY_SOCKET` and `WATCHDOG_USEC`, if systemd started the program.
        """
        self._address = environment.get("NOTIFY_SOCKET", "")
        usec = environment.get("WATCHDOG_USEC", "")
        of_this = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_s = int(usec) / 1e6 if usec.isdecimal() and of_this else None
        """Within which systemd wants a sign of life; None if it wants none."""
        self._ended = threading.Event()

    def ready(self, status: str) -> None:
        """The service does its work from now on."""
        self._send(f"READY=1\nSTATUS={_one_line(status)}")

    def stopping(self) -> None:
        """The service ends; no more signs of life come."""
        self._ended.set()
        self._send("STOPPING=1")

    def keep_alive(self, is_alive: Callable[[], bool]) -> None:
        """Give a sign of life twice in every period that systemd allows, while there is life.

        Args:
            is_alive: asked before every sign; without one systemd starts the service again.
        """
        if self.watchdog_s is None:
            return
        period_s = self.watchdog_s / 2

        def work() -> None:
            while not self._ended.is_set():
                if is_alive():
                    self._send("WATCHDOG=1")
                self._ended.wait(period_s)

        threading.Thread(target=work, name="sign of life", daemon=True).start()

    def _send(self, state: str) -> None:
        if self._address[:1] not in ("/", "@"):
            return
        address = f"\0{self._address[1:]}" if self._address[0] == "@" else self._address
        # A systemd that does not listen any more must not end the inspection.
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.sendto(state.encode(), address)


def _one_line(text: str) -> str:
    return " ".join(text.split())
