"""Annotated video of every camera, in segments of a ring."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import cv2

from dad_edge.errors import StorageError, writing
from dad_edge.line.seams import Judged, LineSink
from dad_edge.line.settings import VideoSettings
from dad_edge.stream.annotate import Annotator

FOLDER = "video"
_RESERVE = 1 << 30
"""Bytes that are left free on the disk."""


@dataclass(slots=True)
class _Segment:
    writer: cv2.VideoWriter
    begun: float
    size: tuple[int, int]
    frames: int = 0


class VideoSegments(LineSink):
    """`video/<camera>/<time>.mp4`; a segment has its name from its first frame."""

    name = "video"

    def __init__(self, folder: Path, settings: VideoSettings) -> None:
        """
        Args:
            folder: of the segments; made if it is missing.
            settings: length, rate and what of the disk they may take.

        Raises:
            StorageError: the folder cannot be used.
        """
        self._folder = folder
        self._settings = settings
        self._open: dict[str, _Segment] = {}
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)

    def write(self, judged: Judged) -> None:
        picture = Annotator(judged.threshold, judged.threshold).draw(judged.result)
        at = judged.result.frame.time.timestamp()
        segment = self._open.get(judged.camera)
        size = (picture.shape[1], picture.shape[0])
        if segment is not None and (
            not 0 <= at - segment.begun < 60 * self._settings.minutes or segment.size != size
        ):
            self._finish(judged.camera)
            segment = None
        if segment is None:
            segment = self._open[judged.camera] = self._begin(judged, at, size)
        due = round((at - segment.begun) * self._settings.fps) + 1
        for _ in range(min(due - segment.frames, round(10 * self._settings.fps))):
            segment.writer.write(picture)
            segment.frames += 1

    def close(self) -> None:
        for camera in list(self._open):
            self._finish(camera)

    def _begin(self, judged: Judged, at: float, size: tuple[int, int]) -> _Segment:
        with writing(self._folder):
            self._make_room()
            folder = self._folder / judged.camera
            folder.mkdir(exist_ok=True)
            path = folder / f"{judged.result.frame.time:%Y%m%dT%H%M%S%f}Z.mp4"
            path.touch()
        code = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(path), code, self._settings.fps, size)
        if not writer.isOpened():
            raise StorageError(
                f"{path} cannot be written as MPEG-4 video.", "remove [sinks.video] from line.toml"
            )
        return _Segment(writer, at, size)

    def _finish(self, camera: str) -> None:
        self._open.pop(camera).writer.release()

    def _make_room(self) -> None:
        """Remove the oldest segments; those being written are the newest."""
        segments = sorted(self._folder.glob("*/*.mp4"), key=lambda path: path.name)
        total = sum(path.stat().st_size for path in segments)
        removable = segments[: len(segments) - len(self._open)]
        for path in removable:
            is_full = shutil.disk_usage(self._folder).free < _RESERVE
            if total <= self._settings.gigabytes * 1e9 and not is_full:
                return
            total -= path.stat().st_size
            path.unlink(missing_ok=True)
        if shutil.disk_usage(self._folder).free < _RESERVE:
            raise StorageError(
                f"the disk of {self._folder} has less than 1 GB left.", "free the disk"
            )
