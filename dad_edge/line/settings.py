"""Settings of the sinks of a line: the tables `[sinks.…]` of `line.toml`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from dad_edge.errors import UsageError

Fsync = Literal["record", "second", "never"]


def _between(low: float, high: float, **values: float) -> None:
    for name, value in values.items():
        if not low <= value <= high:
            raise UsageError(
                f"{name} must lie in [{low:g}, {high:g}], got {value}.", "correct the value"
            )


def _web_address(name: str, value: str) -> None:
    if not value.startswith(("http://", "https://")):
        raise UsageError(
            f"{name} must start with http:// or https://.", "write the whole address of the server"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Secret:
    """Where a password or token is read from; it is never written into `line.toml`."""

    environment: str = ""
    """Name of an environment variable."""
    file: str = ""
    """Path of a file that holds nothing else."""

    def __post_init__(self) -> None:
        if bool(self.environment) == bool(self.file):
            raise UsageError(
                "a secret needs either 'environment' or 'file'.",
                'write {environment = "NAME"} or {file = "/path"}',
            )

    def read(self) -> str:
        """The secret.

        Raises:
            UsageError: it is not there; the message does not show it.
        """
        if self.environment:
            if value := os.environ.get(self.environment, ""):
                return value
            raise UsageError(
                f"the environment variable {self.environment} is not set.",
                "set it where the line is started, as in its systemd unit",
            )
        try:
            value = Path(self.file).read_text("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"the secret in {self.file} cannot be read ({type(error).__name__}).",
                "name a text file that the user of the line may read",
            ) from error
        if not value:
            raise UsageError(f"{self.file} is empty.", "write the secret into it")
        return value


@dataclass(frozen=True, kw_only=True, slots=True)
class JsonLinesSettings:
    """`[sinks.jsonl]`: one JSON object a line, in files that are rotated."""

    megabytes: float = 64.0
    """A file of this size is followed by a new one."""
    hours: float = 24.0
    """So is a file this old."""
    files: int = 30
    """Files that are kept, the newest ones."""
    fsync: Fsync = "second"
    """When lines are forced onto the disk: after each, once a second, or when the system likes."""

    def __post_init__(self) -> None:
        _between(0.001, 100_000, megabytes=self.megabytes)
        _between(0.0001, 24 * 366, hours=self.hours)
        _between(1, 100_000, files=self.files)


@dataclass(frozen=True, kw_only=True, slots=True)
class StoreSettings:
    """`[sinks.store]`: the database that the page asks."""

    days: float = 90.0
    """Older records are deleted, except those of parts that a person marked."""

    def __post_init__(self) -> None:
        _between(0.001, 36_600, days=self.days)


@dataclass(frozen=True, kw_only=True, slots=True)
class FlaggedSettings:
    """`[sinks.flagged]`: pictures of every part that is not good."""

    gigabytes: float = 4.0
    """All of them together at most; the oldest go first."""
    free_gigabytes: float = 1.0
    """What is left free on the disk, whoever fills it."""

    def __post_init__(self) -> None:
        _between(0.0001, 1_000_000, gigabytes=self.gigabytes)
        _between(0, 1_000_000, free_gigabytes=self.free_gigabytes)


@dataclass(frozen=True, kw_only=True, slots=True)
class VideoSettings:
    """`[sinks.video]`: annotated video of every camera, in segments."""

    minutes: float = 10.0
    """Length of a segment."""
    gigabytes: float = 10.0
    """All segments together at most; the oldest go first."""
    fps: float = 10.0
    """Frames a second of the video."""

    def __post_init__(self) -> None:
        _between(0.01, 24 * 60, minutes=self.minutes)
        _between(0.001, 1_000_000, gigabytes=self.gigabytes)
        _between(0.1, 240, fps=self.fps)


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttSettings:
    """`[sinks.mqtt]`: results, states and events for a broker."""

    host: str
    port: int = 1883
    tls: bool = False
    """Encrypted, and the broker's certificate checked."""
    username: str = ""
    password: Secret | None = None
    topic: str = "dad-edge"
    """First level of every topic."""
    discovery: str = "homeassistant"
    """First level of the topics by which Home Assistant finds sensors; none if empty."""

    def __post_init__(self) -> None:
        _between(1, 65535, port=self.port)
        for name in ("topic", "discovery"):
            if set(getattr(self, name)) & {"#", "+", "\0"}:
                raise UsageError(f"{name} may hold neither # nor +.", "write plain levels: a/b")
        if not self.topic.strip("/"):
            raise UsageError("topic is empty.", "write one such as dad-edge")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSettings:
    """`[sinks.webhook]`: rejected parts and events as HTTP requests."""

    url: str
    token: Secret | None = None
    """Sent as `Authorization: Bearer`."""
    all_parts: bool = False
    """Whether accepted parts are sent too."""
    timeout_s: float = 5.0
    spool: int = 10_000
    """Requests that wait on the disk at most while the server is away."""

    def __post_init__(self) -> None:
        _web_address("url", self.url)
        _between(0.1, 300, timeout_s=self.timeout_s)
        _between(1, 1_000_000, spool=self.spool)


@dataclass(frozen=True, kw_only=True, slots=True)
class PulseSettings:
    """`[sinks.pulse]`: a coil of a PLC that is on for a moment when a part is rejected."""

    host: str
    port: int = 502
    coil: int = 0
    unit: int = 1
    milliseconds: float = 100.0
    """How long it is on."""
    delay_ms: float = 0.0
    """From the frame's reading to the pulse; at once if that time has passed."""
    cameras: tuple[str, ...] = ()
    """Whose parts it is about; all if empty."""

    def __post_init__(self) -> None:
        _between(1, 65535, port=self.port)
        _between(0, 65535, coil=self.coil)
        _between(0, 255, unit=self.unit)
        _between(1, 60_000, milliseconds=self.milliseconds)
        _between(0, 600_000, delay_ms=self.delay_ms)


@dataclass(frozen=True, kw_only=True, slots=True)
class SinksSettings:
    """`[sinks]`: the first three are always there, the others where they are named."""

    jsonl: JsonLinesSettings = field(default_factory=JsonLinesSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    flagged: FlaggedSettings = field(default_factory=FlaggedSettings)
    video: VideoSettings | None = None
    mqtt: MqttSettings | None = None
    webhook: WebhookSettings | None = None
    pulse: PulseSettings | None = None
