"""Where frames come from: cameras, network streams, video files, folders and the demo line."""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Generator
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.data.demo import line
from dad_edge.data.folder import IMAGE_SUFFIXES, images_below
from dad_edge.errors import DadEdgeError, DataError, UsageError, printable
from dad_edge.image.preprocess import as_frame, read_frame

NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")
FOLDER_FPS = 10.0
"""Frames a second of a video made from pictures that have no rate of their own."""
KNOWN = "camera://0, rtsp://…, a video file, a folder of images, demo:// or demo://?parts=60"

_CAMERA_FPS = 30.0
_TOLERATED_MISSING_FRAMES = 2


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a part."""

    image: NDArray[np.uint8]
    """(H,W,3) uint8, BGR."""
    name: str
    """File name relative to the source, or the source's name and a number."""
    index: int
    """Position in the source, from 0."""
    time: datetime
    """When it was read, UTC."""
    kind: str | None = None
    """`good` or the true defect kind, where the truth is known."""
    mask: NDArray[np.uint8] | None = None
    """(H,W) uint8, above 0 on the true defect, where the truth is known."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A picture of the source that cannot be read; the stream goes on after it."""

    name: str
    index: int
    time: datetime
    error: DadEdgeError


Frames = Generator[Frame | Unreadable, None, None]


@dataclass(frozen=True, slots=True)
class Source:
    """An opened source."""

    name: str
    """As named by the user."""
    frames: Frames
    """To be read and closed by one thread."""
    live: bool = False
    """Whether frames that come too fast may be dropped for newer ones."""
    length: int | None = None
    """Number of frames, where it is known."""
    fps: float = FOLDER_FPS
    """Frames a second for a video made of it."""


def open_source(uri: str | int, bit_depth: int | None = None) -> Source:
    """Open a camera, network stream, video file, folder of images or the demo line.

    Args:
        uri: camera index; `camera://N`; `rtsp://…` and other network streams; `demo://` with
            optional `parts` and `seed`; `file://` or a plain path of a video, image or folder.
        bit_depth: of the model, for 16-bit images.

    Raises:
        DataError: there is no such camera, stream, file or folder, or it cannot be read.
        UsageError: the kind of source is not known.
    """
    _silence_opencv()
    if isinstance(uri, int):
        uri = f"camera://{uri}"
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return _open_path(Path(uri), bit_depth)
    if scheme == "camera" and rest.isdecimal():
        return _open_camera(int(rest))
    if scheme == "demo":
        return _open_demo_uri(uri)
    if scheme == "file":
        return _open_path(Path(unquote(rest)), bit_depth)
    if scheme in NETWORK_SCHEMES:
        return _open_network(uri)
    raise UsageError(f"'{uri}' is not a source this version can open.", f"use one of: {KNOWN}")


def demo_source(parts: int | None = None, seed: int = 0, defect_rate: float = 0.25) -> Source:
    """The demo line, endless unless `parts` limits it; the truth of every part is known.

    Raises:
        UsageError: a value is out of range.
    """
    if parts is not None and parts < 1:
        raise UsageError(f"parts must be at least 1, got {parts}.", "use demo://?parts=60")
    samples = line(seed, defect_rate)

    def frames() -> Frames:
        for index, sample in enumerate(itertools.islice(samples, parts)):
            name = f"part-{index:05d}"
            yield Frame(sample.image, name, index, _now(), sample.kind, sample.mask)

    return Source("demo://", frames(), length=parts)


def _open_demo_uri(uri: str) -> Source:
    query = parse_qsl(urlsplit(uri).query, keep_blank_values=True)
    try:
        values = {key: int(value) for key, value in query}
    except ValueError:
        values = {"": 0}
    if not values.keys() <= {"parts", "seed"}:
        raise UsageError(
            f"'{uri}' has settings the demo line does not know.", "use demo://?parts=60&seed=0"
        )
    return demo_source(**values)


def _silence_opencv() -> None:
    """Leave stderr to this program's own sentences; every failed read is reported by them."""
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    if hasattr(cv2, "setLogLevel"):  # OpenCV 4
        cv2.setLogLevel(0)
    else:
        cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


def _now() -> datetime:
    return datetime.now(timezone.utc)


def _open_path(path: Path, bit_depth: int | None) -> Source:
    if not path.exists():
        raise DataError(f"{path} does not exist.", f"check the path; sources are: {KNOWN}")
    if path.is_dir():
        return _open_images(printable(str(path)), path, images_below(path), bit_depth)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_images(printable(str(path)), path.parent, [path], bit_depth)
    return _open_video(path)


def _open_images(uri: str, root: Path, paths: list[Path], bit_depth: int | None) -> Source:
    def frames() -> Frames:
        for index, path in enumerate(paths):
            name = printable(path.relative_to(root).as_posix())
            try:
                yield Frame(read_frame(path, bit_depth), name, index, _now())
            except DataError as error:
                yield Unreadable(name, index, _now(), error)

    return Source(uri, frames(), length=len(paths))


def _open_video(path: Path) -> Source:
    capture = cv2.VideoCapture(str(path))
    first = _grab(capture, path.name)
    if first is None:
        capture.release()
        raise DataError(
            f"{path} is not a video that can be read; it is damaged, or its codec is not known.",
            f"play it in a video player, or convert it to MP4; known are {' '.join(VIDEO_SUFFIXES)}"
            " and images",
        )
    declared = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    length = int(declared) if math.isfinite(declared) and declared > 0 else None

    def frames() -> Frames:
        index = 0
        try:
            image: NDArray[np.uint8] | None = first
            while image is not None:
                yield Frame(image, f"{path.name}#{index:06d}", index, _now())
                index += 1
                image = _grab(capture, path.name)
        finally:
            capture.release()
        if length is not None and index < length - _TOLERATED_MISSING_FRAMES:
            raise DataError(
                f"{path} ends after {index} of {length} frames; the rest cannot be read.",
                "copy the video again; the frames up to there were inspected",
            )

    return Source(str(path), frames(), length=length, fps=_rate(capture, FOLDER_FPS))


def _open_camera(number: int) -> Source:
    capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        devices = sorted(str(p) for p in Path("/dev").glob("video*"))
        wanted = f"/dev/video{number}"
        if wanted in devices:
            raise DataError(
                f"camera {number} ({wanted}) exists but cannot be opened.",
                "end the program that uses it, or add yourself to the group 'video'",
            )
        found = f"found are {', '.join(devices)}" if devices else "no /dev/video* device exists"
        raise DataError(
            f"there is no camera {number}: {found}.",
            "plug in a camera, name another number, or use --source demo://",
        )
    return _live(f"camera://{number}", capture)


def _open_network(uri: str) -> Source:
    capture = cv2.VideoCapture(uri)
    if not capture.isOpened():
        raise DataError(
            f"cannot open {_without_password(uri)}.",
            "check the address, the password and that the device is switched on",
        )
    return _live(_without_password(uri), capture)


def _live(name: str, capture: cv2.VideoCapture) -> Source:
    """A source without an end: when it ends, that is an error."""

    def frames() -> Frames:
        try:
            for index in itertools.count():
                image = _grab(capture, name)
                if image is None:
                    raise DataError(
                        f"{name} stopped after {index} frames.",
                        "check its cable, power and network, then start again",
                    )
                yield Frame(image, f"{name}#{index:06d}", index, _now())
        finally:
            capture.release()

    return Source(name, frames(), live=True, fps=_rate(capture, _CAMERA_FPS))


def _grab(capture: cv2.VideoCapture, name: str) -> NDArray[np.uint8] | None:
    try:
        found, image = capture.read()
    except cv2.error as error:
        raise DataError(f"{name} cannot be read: {error}.", "start again") from error
    return as_frame(image, name) if found and image is not None else None


def _rate(capture: cv2.VideoCapture, default: float) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 1 <= fps <= 240 else default


def _without_password(uri: str) -> str:
    """The address as it may be printed and logged."""
    parts = urlsplit(uri)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()
