"""Tells the service manager how a service does, as `sd_notify` of systemd does."""

from __future__ import annotations

import os
import socket
from contextlib import suppress

READY, ALIVE, STOPPING = "READY=1", "WATCHDOG=1", "STOPPING=1"


def notify(state: str) -> bool:
    """Send a state; whether there is a service manager that got it.

    Args:
        state: one of the constants above.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    where = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(state.encode(), where)
        return True
    return False
