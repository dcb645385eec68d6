"""Where frames come from: cameras, network streams, video files, folders and the demo line."""

from __future__ import annotations

import itertools
import os
import re
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from dad_edge.data.demo import line
from dad_edge.data.folder import IMAGE_SUFFIXES, images_below
from dad_edge.errors import DataError, UsageError, printable
from dad_edge.image.preprocess import read_frame
from dad_edge.stream.addresses import without_secrets
from dad_edge.stream.captures import VIDEO_SUFFIXES, open_network, open_video
from dad_edge.stream.devices import EXAMPLE, open_camera, open_csi, open_device, read_settings
from dad_edge.stream.frames import Frame, Frames, Source, Unreadable, now
from dad_edge.stream.gstreamer import open_pipeline
from dad_edge.stream.paths import paths_on_stdin, watched_folder

NETWORK_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https")
POSTED = "post://"
"""The source of a camera whose pictures machines send to the page."""
KNOWN = (
    "0, /dev/video0 or v4l2:///dev/video0 for a camera, csi://0, rtsp://…, gst://PIPELINE, a "
    "video file, a folder of images, watch://FOLDER for images as they come, - for paths on "
    "stdin, post:// for what machines send, demo:// or demo://?parts=60"
)


def open_source(uri: str | int, bit_depth: int | None = None) -> Source:
    """Open a camera, network stream, video file, folder of images or the demo line.

    Args:
        uri: camera index; `camera://N`, `v4l2://` or the path of a device; `csi://N` of a Jetson;
            `gst://` and a pipeline of GStreamer; `rtsp://…` and other network streams; `demo://`
            with optional `parts` and `seed`; `file://` or a plain path of a video, image or folder,
            where `~` is the home folder; `watch://` and the path of a folder whose new images are
            inspected as they come; `-` for paths on stdin.
        bit_depth: of the model, for 16-bit images.

    Raises:
        DataError: there is no such camera, stream, file or folder, or it cannot be read.
        UsageError: the source is empty, or its kind is not known.
    """
    if isinstance(uri, int):
        return open_camera(uri)
    if not uri.removeprefix("file://").strip():
        raise UsageError(
            "--source is empty.",
            f"if it comes from a variable, give that one a value; sources are: {KNOWN}",
        )
    if uri == "-":
        return paths_on_stdin(bit_depth)
    scheme, separator, rest = uri.partition("://")
    scheme = scheme.lower()
    if not separator or re.match(r"[A-Za-z]$", scheme):
        return _open_path(uri, bit_depth)
    if scheme in ("camera", "v4l2", "csi"):
        return _open_camera_uri(uri)
    if scheme == "gst":
        return open_pipeline(uri, rest)
    if scheme == "demo":
        return _open_demo_uri(uri)
    if scheme == "file":
        return _open_path(
            unquote(rest.removeprefix("localhost"), errors="surrogateescape"), bit_depth
        )
    if scheme == "watch":
        return watched_folder(Path(os.path.expanduser(rest)), bit_depth)
    if scheme in NETWORK_SCHEMES:
        return open_network(uri)
    if uri == POSTED:
        raise needs_page()
    raise UsageError(
        f"'{without_secrets(uri)}' is not a source this version can open.", f"use one of: {KNOWN}"
    )


def needs_page() -> UsageError:
    """The error for posted pictures where there is no page to take them."""
    return UsageError(f"{POSTED} takes its pictures through the page.", "add --web")


def demo_source(parts: int | None = None, seed: int = 0, defect_rate: float = 0.25) -> Source:
    """The demo line, which is endless unless `parts` limits it; the truth of every part is known.

    Raises:
        UsageError: a value is out of range.
    """
    if parts is not None and parts < 1:
        raise UsageError(f"parts must be at least 1, got {parts}.", "use demo://?parts=60")
    samples = line(seed, defect_rate)

    def frames() -> Frames:
        for index, sample in enumerate(itertools.islice(samples, parts)):
            name = f"part-{index:05d}"
            yield Frame(sample.image, name, index, now(), sample.kind, sample.mask)

    return Source("demo://", frames(), length=parts)


def _open_camera_uri(uri: str) -> Source:
    scheme, _, rest = uri.partition("://")
    device, _, query = rest.partition("?")
    settings = read_settings(query)
    is_csi = scheme.lower() == "csi"
    if device.isdecimal():
        number = int(device)
        return open_csi(uri, number, settings) if is_csi else open_camera(number, settings)
    if device.startswith("/dev/") and not is_csi:
        return open_device(device, settings)
    raise UsageError(
        f"'{uri}' names no camera.",
        f"write the number or the device of a camera, such as {EXAMPLE}",
    )


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


def _open_path(named: str, bit_depth: int | None) -> Source:
    path = Path(named)
    if not path.exists() and named.startswith("~"):
        path = Path(os.path.expanduser(named))
    if named.startswith("/dev/video") or path.is_char_device():
        return open_device(str(path))
    if not path.exists():
        if named.isdecimal():
            return open_camera(int(named))
        raise _missing(named)
    if path.is_dir():
        return _open_folder(path, bit_depth)
    if not path.is_file():
        raise DataError(
            f"{path} is neither a file nor a folder.", f"check the path; sources are: {KNOWN}"
        )
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return _open_images(str(path), path.parent, [path], bit_depth)
    return open_video(path)


def _missing(named: str) -> DataError:
    """The error for a path that does not exist, with the most likely mistake."""
    shown = without_secrets(named)
    if re.match(r"[A-Za-z]:[\\/]", named):
        inside = f"/mnt/{named[0].lower()}/" + named[3:].replace("\\", "/").lstrip("/")
        return DataError(
            f"{shown} is a path of Windows, and does not exist here.",
            f"give the path as this system has it; inside WSL that is {inside}",
        )
    if named.startswith("\\\\"):
        return DataError(
            f"{shown} is a network share of Windows, and does not exist here.",
            "mount the share, then give the folder where it is mounted",
        )
    return DataError(f"{shown} does not exist.", f"check the path; sources are: {KNOWN}")


def _open_folder(folder: Path, bit_depth: int | None) -> Source:
    try:
        images = images_below(folder)
    except DataError as error:
        videos = sorted(p for p in folder.glob("*") if p.suffix.lower() in VIDEO_SUFFIXES)
        if not videos:
            raise
        raise DataError(
            f"folder {folder} has no images, but {len(videos)} video(s).",
            f"inspect them one by one, such as --source {videos[0]}",
        ) from error
    return _open_images(str(folder), folder, images, bit_depth)


def _open_images(uri: str, root: Path, paths: list[Path], bit_depth: int | None) -> Source:
    def frames() -> Frames:
        for index, path in enumerate(paths):
            name = printable(path.relative_to(root).as_posix())
            try:
                yield Frame(read_frame(path, bit_depth), name, index, now())
                continue
            except DataError as error:
                damage = error
            except Exception as error:  # such as a lack of memory, or a network share that fails
                reason = str(error).strip().rstrip(".") or type(error).__name__
                damage = DataError(
                    f"image {path} cannot be read: {reason}.", "copy the file again or remove it"
                )
            if not root.is_dir():
                raise DataError(
                    f"folder {root} is gone; {index} of its {len(paths)} images were inspected.",
                    "connect its disk or network share again, then inspect it again",
                )
            yield Unreadable(name, index, now(), damage)

    return Source(printable(uri), frames(), length=len(paths))
