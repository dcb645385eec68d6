"""Pictures of parts that are not good, in a ring that never fills the disk."""

from __future__ import annotations

import re
import secrets
import shutil
from collections import deque
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import StorageError, writing
from dad_edge.files import encode_json
from dad_edge.image.pictures import heat_overlay
from dad_edge.line.records import record_of
from dad_edge.line.seams import Judged, LineSink
from dad_edge.line.settings import FlaggedSettings

FOLDER = "flagged"
FRAME, MAP, VIEW, RECORD = "frame.png", "map.png", "view.jpg", "record.json"
FILES = (FRAME, MAP, VIEW, RECORD)
MAP_SCALE = 65535
"""A pixel of `map.png` is its score times this."""
VIEW_SIDE = 640
"""Longest side of `view.jpg`, which shows the heat map over the frame."""
_ID = re.compile(r"[A-Za-z0-9]{1,40}-[0-9]{1,20}", re.ASCII)


class FlaggedRing(LineSink):
    """A folder a part: `flagged/<id>/` with the frame as it came, its scores, a view, a record."""

    name = "flagged"

    def __init__(self, folder: Path, settings: FlaggedSettings) -> None:
        """
        Args:
            folder: of the ring; made if it is missing.
            settings: how much of the disk it may take.

        Raises:
            StorageError: the folder cannot be used.
        """
        self._folder = folder
        self._settings = settings
        self._sizes: deque[tuple[str, int]] = deque()
        self._total = 0
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for path in sorted(folder.iterdir()):
                if path.name.startswith(".part-"):  # of a run that was killed
                    shutil.rmtree(path, ignore_errors=True)
                elif _ID.fullmatch(path.name):
                    self._add(path.name, sum(f.stat().st_size for f in path.iterdir()))

    def wants(self, judged: Judged) -> bool:
        return judged.rejected or judged.verdict != "good"

    def write(self, judged: Judged) -> None:
        contents = _contents(judged)
        size = sum(len(content) for content in contents.values())
        target = self._folder / judged.id
        if target.exists():  # the call is repeated
            return
        self._make_room(size)
        with writing(target):
            draft = self._folder / f".part-{secrets.token_hex(6)}"
            draft.mkdir()
            try:
                for name, content in contents.items():
                    (draft / name).write_bytes(content)
                draft.rename(target)
            except BaseException:
                shutil.rmtree(draft, ignore_errors=True)
                raise
        self._add(judged.id, size)

    def _make_room(self, size: int) -> None:
        most = self._settings.gigabytes * 1e9
        with writing(self._folder):
            while self._sizes and self._total + size > most:
                self._remove_oldest()
            while self._is_disk_full(size) and self._sizes:
                self._remove_oldest()
            if size > most or self._is_disk_full(size):
                raise StorageError(
                    f"{self._folder} has no room for another part within its limits.",
                    "free the disk, or change gigabytes and free_gigabytes of [sinks.flagged]",
                )

    def _is_disk_full(self, size: int) -> bool:
        free = shutil.disk_usage(self._folder).free
        return free - size < self._settings.free_gigabytes * 1e9

    def _add(self, name: str, size: int) -> None:
        self._sizes.append((name, size))
        self._total += size

    def _remove_oldest(self) -> None:
        name, size = self._sizes.popleft()
        shutil.rmtree(self._folder / name, ignore_errors=True)
        self._total -= size


def picture_of(folder: Path, part: str, name: str) -> Path | None:
    """A file of a flagged part, or None if there is none.

    Args:
        folder: of the ring.
        part: id from outside; nothing but an id leads anywhere.
        name: one of `FILES`.
    """
    if not _ID.fullmatch(part) or name not in FILES:
        return None
    path = folder / part / name
    return path if path.is_file() and not path.is_symlink() else None


def _contents(judged: Judged) -> dict[str, bytes]:
    image, inspection = judged.result.frame.image, judged.result.inspection
    scores = np.nan_to_num(inspection.score_map, nan=0.0).clip(0, 1)
    scale = min(1.0, VIEW_SIDE / max(image.shape[:2]))
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    view = heat_overlay(np.asarray(small, np.uint8), inspection.heat)
    return {
        FRAME: _encoded(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        MAP: _encoded(".png", np.rint(scores * MAP_SCALE).astype(np.uint16), []),
        VIEW: _encoded(".jpg", view, [cv2.IMWRITE_JPEG_QUALITY, 85]),
        RECORD: encode_json(record_of(judged)),
    }


def _encoded(suffix: str, picture: NDArray[np.uint8] | NDArray[np.uint16],
             options: list[int]) -> bytes:  # fmt: skip
    done, content = cv2.imencode(suffix, picture, options)
    assert done, suffix
    return content.tobytes()
