"""Rejected parts and events as HTTP requests, spooled on the disk while the server is away."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import httpx

from dad_edge.errors import StorageError, writing
from dad_edge.files import encode_json, write_whole
from dad_edge.line.records import RecordSink
from dad_edge.line.settings import WebhookSettings
from dad_edge.stream.addresses import without_secrets

FOLDER = "webhook-spool"
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 60.0
_AT_ONCE = 50
"""Requests between two looks at the queue."""


class WebhookSink(RecordSink):
    """POSTs records as JSON, in order, each until the server has answered 2xx.

    Every record is on the disk before it is sent: it survives a restart, and is sent again if the
    answer was lost. An answer of 4xx other than 408 and 429 means that it will never be taken: the
    record is dropped with an error.
    """

    name = "webhook"

    def __init__(self, folder: Path, settings: WebhookSettings) -> None:
        """
        Args:
            folder: of the spool; made if it is missing.
            settings: of the server.

        Raises:
            UsageError: the token is not where the settings say.
            StorageError: the spool cannot be used.
        """
        self._folder = folder
        self._settings = settings
        headers = {"Content-Type": "application/json"}
        if settings.token is not None:
            headers["Authorization"] = f"Bearer {settings.token.read()}"
        self._client = httpx.Client(
            timeout=settings.timeout_s, headers=headers, follow_redirects=False
        )
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._spool = deque(sorted(p.name for p in folder.glob("[0-9]*.json")))
        self._number = int(self._spool[-1].split(".")[0]) + 1 if self._spool else 0
        self._away: StorageError | None = None
        self._wait_s, self._again_at = 0.0, 0.0

    def take(self, record: dict[str, Any]) -> None:
        accepted = record["record"] == "frame" and not record["rejected"]
        if accepted and not self._settings.all_parts:
            return
        while len(self._spool) >= self._settings.spool:
            self._drop_first()
        name = f"{self._number:012d}.json"
        write_whole(self._folder / name, encode_json(record))
        self._spool.append(name)
        self._number += 1

    def flush(self) -> None:
        if self._away is not None and time.monotonic() < self._again_at:
            raise self._away
        for _ in range(_AT_ONCE):
            if not self._spool:
                return
            self._send_first()

    def close(self) -> None:
        self._client.close()

    def _send_first(self) -> None:
        path = self._folder / self._spool[0]
        try:
            content = path.read_bytes()
        except OSError:  # removed by hand
            self._drop_first()
            return
        try:
            answer = self._client.post(self._settings.url, content=content)
        except httpx.HTTPError as error:
            raise self._wait(f"does not answer ({type(error).__name__})") from error
        if answer.status_code in (408, 429) or answer.status_code >= 500:
            raise self._wait(f"answered {answer.status_code}")
        self._away, self._wait_s = None, 0.0
        self._drop_first()
        if not answer.is_success:
            raise StorageError(
                f"{without_secrets(self._settings.url)} answered {answer.status_code}; the record "
                "was dropped.",
                "correct url and token in [sinks.webhook]",
            )

    def _wait(self, why: str) -> StorageError:
        """Leave the server alone for a while; what is said about it until then."""
        self._wait_s = min(max(FIRST_WAIT_S, 2 * self._wait_s), LONGEST_WAIT_S)
        self._again_at = time.monotonic() + self._wait_s
        self._away = StorageError(
            f"{without_secrets(self._settings.url)} {why}; requests wait on the disk.",
            "look after the server; up to the limit of the spool nothing is lost meanwhile",
        )
        return self._away

    def _drop_first(self) -> None:
        with writing(self._folder):
            (self._folder / self._spool.popleft()).unlink(missing_ok=True)
