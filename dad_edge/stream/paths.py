"""Pictures that are named or appear while the line runs: a watched folder, paths on stdin."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from dad_edge.data.folder import IMAGE_SUFFIXES
from dad_edge.errors import DataError, printable
from dad_edge.image.preprocess import read_frame
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable, now

POLL_S = 0.5
_LONGEST_LINE = 16_384


def watched_folder(folder: Path, bit_depth: int | None = None, poll_s: float = POLL_S) -> Source:
    """Every picture that is in a folder, and every one that comes, in the order of their coming.

    A picture is read once its size and time have not changed between two looks, so one that is
    still being copied is left alone. Pictures are told by name, size and time: one that is written
    anew is inspected again.

    Args:
        folder: with its folders.
        bit_depth: of the model, for 16-bit images.
        poll_s: between two looks.

    Raises:
        DataError: there is no such folder, or it may not be read.
    """
    if not folder.is_dir():
        raise DataError(f"folder {folder} does not exist.", "make it, or name another one")
    if not os.access(folder, os.R_OK | os.X_OK):
        raise DataError(f"folder {folder} may not be read.", "change its permissions or its owner")

    def frames() -> Frames:
        for index, path in enumerate(_arrivals(folder, poll_s)):
            yield read_item(path, printable(path.relative_to(folder).as_posix()), index, bit_depth)

    return Source(printable(str(folder)), frames(), waits=True)


def paths_on_stdin(bit_depth: int | None = None, lines: TextIO | None = None) -> Source:
    """A picture for every line of stdin, which names its path; ends with stdin.

    Args:
        bit_depth: of the model, for 16-bit images.
        lines: read in place of stdin.
    """
    given = lines if lines is not None else sys.stdin

    def frames() -> Frames:
        index = 0
        while line := given.readline(_LONGEST_LINE):
            if named := line.rstrip("\r\n"):
                yield read_item(Path(named), printable(named), index, bit_depth)
                index += 1

    return Source("stdin", frames(), waits=True)


def _arrivals(folder: Path, poll_s: float) -> Iterator[Path]:
    """Paths of complete pictures, each once for each time that it was written."""
    seen: dict[Path, tuple[int, int]] = {}
    given: dict[Path, tuple[int, int]] = {}
    while True:
        found = _pictures(folder)
        ready = [p for p, look in found.items() if seen.get(p) == look and given.get(p) != look]
        for path in sorted(ready, key=lambda path: (found[path][1], path)):
            given[path] = found[path]
            yield path
        seen = found
        given = {path: look for path, look in given.items() if path in found}
        time.sleep(poll_s)


def _pictures(folder: Path) -> dict[Path, tuple[int, int]]:
    """Size and time of every picture; those that vanish meanwhile are left out."""
    looks = {}
    for path in folder.rglob("*"):
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith("."):
            try:
                status = path.stat()
            except OSError:
                continue
            if status.st_size:
                looks[path] = (status.st_size, status.st_mtime_ns)
    return looks


def read_item(
    path: Path | str, name: str, index: int, bit_depth: int | None, content: bytes | None = None
) -> Frame | Unreadable:
    """A picture as a source gives it, whatever is wrong with its file.

    Args:
        path: of the file.
        name: of the frame.
        index: position in the source.
        bit_depth: of the model, for 16-bit images.
        content: of the file, where it was read already; `path` is its name then.
    """
    try:
        return Frame(read_frame(path, bit_depth, content), name, index, now())
    except DataError as error:
        return Unreadable(name, index, now(), error)
    except Exception as error:  # such as a lack of memory, or a network share that fails
        reason = str(error).strip().rstrip(".") or type(error).__name__
        damage = DataError(
            f"image {printable(str(path))} cannot be read: {reason}.", "copy it again"
        )
        return Unreadable(name, index, now(), damage)
