"""Whether a video file is as long as its own container says.

The number of frames in a container is often estimated from its duration, so too few frames do not
prove damage. The sizes of its parts are exact: if a part would end behind the end of the file, the
file was cut off.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

_BOX_TYPES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip")
"""What an MP4 or QuickTime file may begin with."""
_SEGMENT = b"\x18\x53\x80\x67"
"""The EBML element that holds all of a Matroska or WebM file behind its header."""


def missing_bytes(path: Path) -> int:
    """How many bytes are missing at the end of a video file that was cut off.

    Known for MP4 and QuickTime, AVI, and Matroska and WebM.

    Returns:
        0 where nothing is missing, where the file is of another kind or does not declare its size,
        and where it cannot be read.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(12)
            file.seek(0)
            return max(0, _measure_of(start)(file, size) - size)
    except OSError:
        return 0


def has_index(path: Path) -> bool:
    """Whether the file lists its frames, as MP4, QuickTime and AVI do, and so needs no estimate."""
    try:
        with path.open("rb") as file:
            start = file.read(12)
    except OSError:
        return False
    return start[4:8] in _BOX_TYPES or _is_avi(start)


def _is_avi(start: bytes) -> bool:
    return start[:4] == b"RIFF" and start[8:12] == b"AVI "


def _measure_of(start: bytes) -> Callable[[BinaryIO, int], int]:
    """The function that reads the declared size of a file that starts like this."""
    if start[4:8] in _BOX_TYPES:
        return _end_of_boxes
    if _is_avi(start):
        return _end_of_chunks
    return _end_of_segment if start[:4] == b"\x1a\x45\xdf\xa3" else lambda file, size: 0


def _end_of_boxes(file: BinaryIO, size: int) -> int:
    """ISO 14496-12, 4.2: boxes of a big-endian size and a type, one behind the other."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(16)
        if not re.fullmatch(rb"[ -~\xa9]{4}", head[4:8]):  # what a recorder put behind the boxes
            return 0
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8:  # 0: to the end of the file
            return 0
        end += length
    return end


def _end_of_chunks(file: BinaryIO, size: int) -> int:
    """RIFF: chunks of a type and a little-endian size; a large AVI has several at the top."""
    end = 0
    while end < size:
        file.seek(end)
        head = file.read(8)
        if head[:4] != b"RIFF":  # padding, or what a recorder put behind it
            return 0
        length = int.from_bytes(head[4:8], "little")
        if not length:  # a recorder that was switched off never wrote it
            return 0
        end += 8 + length + length % 2
    # A single missing byte is the padding of an odd size, which some writers leave out.
    return end if end > size + 1 else 0


def _end_of_segment(file: BinaryIO, size: int) -> int:
    """RFC 8794: an identifier, a size of one to eight bytes, and as many bytes of content."""
    file.seek(4)
    file.seek(_variable_size(file) or 0, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return 0
    length = _variable_size(file)
    return 0 if length is None else file.tell() + length


def _variable_size(file: BinaryIO) -> int | None:
    """A size of RFC 8794; None where it is unknown, as in a recording that is still under way."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    extra = 8 - first[0].bit_length()
    largest = (1 << 7 * (extra + 1)) - 1
    value = int.from_bytes(first + file.read(extra), "big") & largest
    return None if value == largest else value
