"""Cameras of this machine, through Video4Linux or the camera interface of a Jetson."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import cv2

from dad_edge.documents import from_mapping
from dad_edge.errors import DataError, ModelError, UsageError
from dad_edge.stream.captures import live
from dad_edge.stream.frames import Source
from dad_edge.stream.gstreamer import open_pipeline

EXAMPLE = "v4l2:///dev/video0?width=1280&height=720&fps=30&format=MJPG&exposure_ms=5"
_BY_HAND = 1
"""V4L2_EXPOSURE_MANUAL; the time of exposure then counts in units of 0.1 ms."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraSettings:
    """What a camera is told before its first picture; what is left out is left as it is."""

    width: int | None = None
    """Of a picture, in pixels, with `height`."""
    height: int | None = None
    fps: float | None = None
    """Pictures a second."""
    format: str | None = None
    """Four characters of a pixel format of Video4Linux, such as MJPG or YUYV."""
    exposure_ms: float | None = None
    """Time of exposure; the camera does not choose it by itself any more."""

    def __post_init__(self) -> None:
        if (self.width is None) != (self.height is None):
            raise UsageError("a camera needs width and height together.", f"write {EXAMPLE}")
        numbers = (self.width, self.height, self.fps, self.exposure_ms)
        if any(not 0 < number < 100_000 for number in numbers if number is not None):
            raise UsageError("a setting of a camera is out of range.", f"write {EXAMPLE}")
        if self.format is not None and not re.fullmatch(r"[ -~]{4}", self.format):
            raise UsageError(
                f"'{self.format}' is not a pixel format of four characters.", f"write {EXAMPLE}"
            )


def read_settings(query: str) -> CameraSettings:
    """Settings as the address of a camera has them behind its `?`.

    Raises:
        UsageError: one is not known, or has no value that it can have.
    """
    given = dict(parse_qsl(query, keep_blank_values=True))
    try:
        return from_mapping(CameraSettings, given, "settings of a camera", strict=False)
    except ModelError as error:
        raise UsageError(error.message, f"write {EXAMPLE}") from error


def open_camera(number: int, settings: CameraSettings | None = None) -> Source:
    """A camera of this machine.

    Args:
        number: of its device, `/dev/video<number>`.
        settings: what it is told first.

    Raises:
        DataError: it does not exist, cannot be opened, or does not take a setting.
    """
    told = settings or CameraSettings()
    plain = told == CameraSettings()
    capture = cv2.VideoCapture(number, cv2.CAP_ANY if plain else cv2.CAP_V4L2)
    if not capture.isOpened():
        devices = sorted(str(p) for p in Path("/dev").glob("video*"))
        device = f"/dev/video{number}"
        if device in devices:
            raise DataError(
                f"camera {number} ({device}) exists but cannot be opened.",
                "end the program that uses it, or add yourself to the group 'video'",
            )
        present = (
            f"the cameras here are {', '.join(devices)}"
            if devices
            else "no /dev/video* device exists"
        )
        raise DataError(
            f"there is no camera {number}: {present}.",
            "plug in a camera, name another number, or use --source demo://",
        )
    try:
        _tell(capture, told, number)
    except DataError:
        capture.release()
        raise
    return live(f"camera://{number}", capture)


def open_device(device: str, settings: CameraSettings | None = None) -> Source:
    """A camera by the name of its device, such as ``/dev/video0`` or ``/dev/v4l/by-id/…``.

    Args:
        device: its path.
        settings: what it is told first.

    Raises:
        DataError: it is not a camera, does not exist, cannot be opened, or does not take a setting.
    """
    match = re.fullmatch(r"/dev/video(\d+)", os.path.realpath(device))
    if match is None:
        cameras = ", ".join(sorted(str(p) for p in Path("/dev").glob("video*"))) or "none"
        raise DataError(
            f"{device} is not a camera; the cameras here: {cameras}.",
            "name the device of a camera, such as /dev/video0",
        )
    return open_camera(int(match.group(1)), settings)


def open_csi(uri: str, number: int, settings: CameraSettings) -> Source:
    """A camera at the camera interface of a Jetson, read by `nvarguscamerasrc` of JetPack.

    Args:
        uri: of the source, for its name.
        number: of the sensor.
        settings: what it is told first; it has no choice of formats.

    Raises:
        UsageError: there is no such element, as everywhere but on a Jetson.
        MissingDependency: there is no GStreamer, or no PyGObject.
        DataError: it gives no picture.
    """
    return open_pipeline(
        uri,
        csi_pipeline(number, settings),
        "csi:// is for a Jetson; elsewhere write gst:// and a pipeline, such as gst://libcamerasrc",
    )


def csi_pipeline(number: int, settings: CameraSettings) -> str:
    """The pipeline of a sensor, for GStreamer.

    Raises:
        UsageError: a format is asked for.
    """
    if settings.format is not None:
        raise UsageError(
            "csi:// takes no format; the image processor of a Jetson makes it.", "leave format out"
        )
    source = f"nvarguscamerasrc sensor-id={number}"
    if settings.exposure_ms is not None:
        ns = round(settings.exposure_ms * 1e6)
        source += f' exposuretimerange="{ns} {ns}"'
    caps = ["video/x-raw(memory:NVMM)"]
    if settings.width is not None:
        caps += [f"width={settings.width}", f"height={settings.height}"]
    if settings.fps is not None:
        caps.append(f"framerate={round(settings.fps * 1000)}/1000")
    return f"{source} ! {','.join(caps)} ! nvvidconv ! video/x-raw,format=BGRx"


def _tell(capture: cv2.VideoCapture, settings: CameraSettings, number: int) -> None:
    """Set what is given, and see what the camera took: many take what is near and say yes."""
    fourcc = cv2.VideoWriter.fourcc(*settings.format) if settings.format else None
    exposure = settings.exposure_ms and settings.exposure_ms * 10
    if exposure is not None:
        capture.set(cv2.CAP_PROP_AUTO_EXPOSURE, _BY_HAND)
    # Which sizes and rates there are depends on the format, and which rates on the size.
    wanted = (
        ("format", cv2.CAP_PROP_FOURCC, fourcc, 0.0),
        ("width", cv2.CAP_PROP_FRAME_WIDTH, settings.width, 0.0),
        ("height", cv2.CAP_PROP_FRAME_HEIGHT, settings.height, 0.0),
        ("fps", cv2.CAP_PROP_FPS, settings.fps, 0.5),
        ("exposure_ms", cv2.CAP_PROP_EXPOSURE, exposure, 1.0),
    )
    for _, what, value, _ in wanted:
        if value is not None:
            capture.set(what, value)
    for key, what, value, tolerance in wanted:
        if value is not None and abs((taken := capture.get(what)) - value) > tolerance:
            asked = getattr(settings, key)
            raise DataError(
                f"camera {number} does not take {key}={asked}; it has {_shown(key, taken)}.",
                f"'v4l2-ctl --device /dev/video{number} --list-formats-ext --list-ctrls' tells "
                "what it can do",
            )


def _shown(key: str, value: float) -> str:
    if key == "format":
        return int(value).to_bytes(4, "little", signed=True).decode("ascii", "replace")
    return f"{value / 10 if key == 'exposure_ms' else value:g}"
