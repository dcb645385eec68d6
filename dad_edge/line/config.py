"""`line.toml`: the cameras of a line, and what they share."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dad_edge.documents import read_toml
from dad_edge.errors import ModelError, UsageError
from dad_edge.line.settings import SinksSettings
from dad_edge.stream.addresses import without_secrets
from dad_edge.stream.sources import POSTED

Device = Literal["auto", "cpu", "gpu"]
Uninspected = Literal["reject", "pass"]
SinkName = Literal["flagged", "video", "mqtt", "webhook", "pulse"]

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}", re.ASCII)
"""Names become parts of file names, topics and addresses."""
_MOST_CAMERAS = 64
_LONGEST_WINDOW = 1000
_LARGEST_SIDE = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraConfig:
    """`[cameras.NAME]`: one camera, and how its frames are judged."""

    source: str | int
    """As `stream --source` takes it, or the index of a camera."""
    bundle: str = ""
    """Folder of the bundle; if empty, the one that a command takes where none is named."""
    engine: str = ""
    """Name of a built engine; if empty, the fastest that proves itself here."""
    device: Device = "auto"
    """Where engines may run."""
    region: tuple[int, int, int, int] | None = None
    """Part of the frame that is inspected: x, y, width and height in pixels."""
    ignore: str = ""
    """Picture laid over the region: not black where nothing is inspected."""
    threshold: float | None = None
    """Image threshold that the camera starts with; the one of its bundle if None."""
    k_of_n: tuple[int, int] = (1, 1)
    """A part is rejected if k of the latest n frames are defects."""
    hysteresis: float = 0.0
    """While a part is rejected, frames are defects down to this far below the threshold."""
    uninspected: Uninspected = "reject"
    """What becomes of a part whose frame no engine could inspect."""
    sinks: tuple[SinkName, ...] | None = None
    """Sinks that take its frames, beside the records of all; every sink of the line if None."""

    @property
    def is_posted(self) -> bool:
        """Whether machines post its pictures."""
        return self.source == POSTED

    def __post_init__(self) -> None:
        if isinstance(self.source, str) and not self.source.strip():
            raise UsageError(
                "source is empty.", "name a camera, an address, a file, a folder or demo://"
            )
        if isinstance(self.source, int) and not 0 <= self.source < 1024:
            raise UsageError(
                f"source {self.source} is no index of a camera.", "write 0 for /dev/video0"
            )
        if self.region is not None:
            x, y, width, height = self.region
            if min(x, y) < 0 or min(width, height) < 1 or max(self.region) >= _LARGEST_SIDE:
                raise UsageError(
                    f"region must be x, y, width and height in pixels, got {list(self.region)}.",
                    "write region = [100, 50, 640, 480], or remove it for the whole frame",
                )
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise UsageError(
                f"threshold must lie in [0, 1], got {self.threshold}.",
                "write a share such as 0.55, or remove it to use the threshold of the bundle",
            )
        k, n = self.k_of_n
        if not 1 <= k <= n <= _LONGEST_WINDOW:
            raise UsageError(
                f"k_of_n must be two numbers from 1 to {_LONGEST_WINDOW}, the smaller one first, "
                f"got {list(self.k_of_n)}.",
                "write k_of_n = [2, 3] to reject a part if two of three frames are defects",
            )
        if not 0 <= self.hysteresis < 1:
            raise UsageError(
                f"hysteresis must lie in [0, 1), got {self.hysteresis}.", "write one such as 0.05"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EngineConfig:
    """`[engines]`: how engines are shared, and when they count as failed."""

    timeout_s: float = 10.0
    """A batch that takes longer has failed."""
    open_timeout_s: float = 600.0
    """An engine that takes longer to open has failed."""
    batch: int | None = None
    """Most frames at once. If None, one on a CPU, which gains nothing from more, and one of every
    camera on a GPU."""
    gather_ms: float = 2.0
    """How long a batch waits for frames of the other cameras."""

    def __post_init__(self) -> None:
        for name, most in (("timeout_s", 3600), ("open_timeout_s", 86400)):
            if not 0.01 <= getattr(self, name) <= most:
                raise UsageError(
                    f"{name} must lie in [0.01, {most}], got {getattr(self, name)}.",
                    "write seconds, such as 10",
                )
        if self.batch is not None and not 1 <= self.batch <= _MOST_CAMERAS:
            raise UsageError(
                f"batch must lie in 1..{_MOST_CAMERAS}, got {self.batch}.",
                "remove it to have it chosen",
            )
        if not 0 <= self.gather_ms <= 1000:
            raise UsageError(
                f"gather_ms must lie in [0, 1000], got {self.gather_ms}.", "use the default, 2"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftConfig:
    """`[drift]`: the alarm when scores of accepted parts move against calibration."""

    false_alarms: float = 0.001
    """Largest probability that a window of parts that did not change raises the alarm; 0 switches
    the alarm off."""
    parts: int = 200
    """Accepted parts in a window."""

    def __post_init__(self) -> None:
        if not 0 <= self.false_alarms <= 0.1:
            raise UsageError(
                f"false_alarms must lie in [0, 0.1], got {self.false_alarms}.",
                "write 0.001 for one of a thousand windows, or 0 for no alarm",
            )
        if not 20 <= self.parts <= 100_000:
            raise UsageError(
                f"parts must lie in 20..100000, got {self.parts}.", "use the default, 200"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class LineConfig:
    """`line.toml`, or the same made from the command line."""

    cameras: dict[str, CameraConfig]
    """Name → camera, in the order of the page."""
    name: str = "line"
    """Of the line, in topics and on the page."""
    folder: str = "results"
    """Where results, events, flagged parts and thresholds are kept."""
    engines: EngineConfig = field(default_factory=EngineConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    sinks: SinksSettings = field(default_factory=SinksSettings)

    @property
    def folder_path(self) -> Path:
        """The folder."""
        return Path(self.folder)

    @property
    def sinks_of_cameras(self) -> dict[str, tuple[SinkName, ...]]:
        """Cameras that do not feed every sink."""
        return {n: c.sinks for n, c in self.cameras.items() if c.sinks is not None}

    def __post_init__(self) -> None:
        for name in (self.name, *self.cameras):
            if not _NAME.fullmatch(name):
                raise UsageError(
                    f"{name!r} is no name: 1 to 40 letters, digits, - and _ are.",
                    "rename it, such as left-2",
                )
        for name, camera in self.cameras.items():
            for sink in camera.sinks or ():
                if getattr(self.sinks, sink) is None:
                    raise UsageError(
                        f"camera {name} names the sink '{sink}', which the line does not have.",
                        f"add a table [sinks.{sink}], or remove it from the camera",
                    )
        if not self.folder.strip():
            raise UsageError("folder is empty.", "name the folder for the results")
        if not 1 <= len(self.cameras) <= _MOST_CAMERAS:
            raise UsageError(
                f"a line has 1 to {_MOST_CAMERAS} cameras, got {len(self.cameras)}.",
                "write a table [cameras.NAME] with a source for each",
            )


def read_line(path: Path) -> LineConfig:
    """Read `line.toml`; paths in it are relative to its folder.

    Raises:
        UsageError: the file cannot be read, or a key is unknown, missing or out of range.
    """
    try:
        config = read_toml(LineConfig, path)
    except ModelError as error:
        raise UsageError(error.message, error.next_step) from error
    base = path.parent
    cameras = {
        name: replace(
            camera,
            source=_beside(base, camera.source),
            bundle=_inside(base, camera.bundle),
            ignore=_inside(base, camera.ignore),
        )
        for name, camera in config.cameras.items()
    }
    return replace(config, cameras=cameras, folder=_inside(base, config.folder))


def line_of(
    sources: Sequence[str | int], *, folder: Path, bundle: Path | None = None, engine: str = ""
) -> LineConfig:
    """A line of sources that were named on the command line, all with the same bundle.

    Raises:
        UsageError: there is no source, or one is empty.
    """
    cameras: dict[str, CameraConfig] = {}
    for source in sources:
        name = _free_name(_name_of(source), cameras)
        cameras[name] = CameraConfig(source=source, bundle=str(bundle or ""), engine=engine)
    return LineConfig(cameras=cameras, folder=str(folder))


def _inside(base: Path, named: str) -> str:
    """A path of the file; an empty one stays empty."""
    return str(base / os.path.expanduser(named)) if named.strip() else ""


def _beside(base: Path, source: str | int) -> str | int:
    """A source of the file: only paths are relative to its folder."""
    if isinstance(source, int) or source == "-":
        return source
    scheme, separator, rest = source.partition("://")
    if separator and scheme.lower() == "watch":
        return f"{scheme}{separator}{_inside(base, rest)}"
    return source if separator else _inside(base, source)


def _name_of(source: str | int) -> str:
    """A name for a source: the camera's number, or the last part of its address or path."""
    if isinstance(source, int):
        return f"camera-{source}"
    shown = without_secrets(source).rstrip("/")
    scheme, separator, rest = shown.partition("://")
    last = re.split(r"[?#]", rest if separator else shown)[0].rpartition("/")[2]
    stem = last if separator else Path(last).stem
    name = re.sub(r"[^A-Za-z0-9_-]+", "-", stem or scheme).strip("-_")[:32]
    return name or "camera"


def _free_name(name: str, taken: dict[str, CameraConfig]) -> str:
    """The name, or the name with the first number that is free."""
    candidates = (name, *(f"{name}-{number}" for number in range(2, len(taken) + 3)))
    return next(candidate for candidate in candidates if candidate not in taken)
