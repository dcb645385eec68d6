"""Frames that OpenCV decodes, from video files and network streams.

A read that fails is no end: one damaged picture of a camera or one damaged frame of a video is
reported and the next one is read. Only several failed reads in a row are the end.
"""

from __future__ import annotations

import itertools
import logging
import math
import os
import socket
import ssl
import time
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DataError, UsageError, printable
from dad_edge.image.preprocess import as_frame
from dad_edge.machine.noise import NOISE
from dad_edge.stream.addresses import has_unclear_password, without_secrets
from dad_edge.stream.containers import has_index, missing_bytes
from dad_edge.stream.frames import FOLDER_FPS, Frame, Frames, Source, Unreadable, now

VIDEO_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v", ".mpg", ".mpeg", ".ts")

_LIVE_FPS = 30.0
_FAILED_READS = 10
"""So many failed reads in a row end a source. Behind its end every read fails at once; an error of
transmission spoils a frame and, in a compressed video, the few that build on it."""
_SILENCE_S = 10.0
"""A live source is over at the first failed read that comes so long after its last picture, because
a camera that is gone can take that long for every read."""

_NETWORK_OPTIONS = (cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, 10_000, cv2.CAP_PROP_READ_TIMEOUT_MSEC, 5_000)
"""FFmpeg waits for a minute or more by itself; RTSP goes over TCP, which is OpenCV's default."""
_CONNECT_S = 10.0
_FFMPEG_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
"""Variable of the environment in which OpenCV looks for further options of FFmpeg."""
_CHECKED = "tls_verify;1"
_TLS_PORTS = {"https": 443, "rtsps": 322}
_AUTHORITIES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Ubuntu, JetPack
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
)
"""Where systems keep the certificates of those they trust, if Python does not know."""
_TOLERATED_MISSING_FRAMES = 2
"""If fewer frames than this are missing, nothing is said."""

_log = logging.getLogger(__name__)


def open_video(path: Path) -> Source:
    """A video file.

    Raises:
        DataError: it cannot be read.
    """
    capture = _capture_of(path)
    name = printable(path.name)
    pictures = _Pictures(capture, name)
    first = pictures.next_run()
    if not isinstance(first[-1], Frame):
        capture.release()
        raise DataError(
            f"{path} is not a video that can be read; it is damaged, or its codec is not known.",
            f"play it in a video player, or convert it to MP4; known are {' '.join(VIDEO_SUFFIXES)}"
            " and images",
        )
    estimate = capture.get(cv2.CAP_PROP_FRAME_COUNT)
    length = int(estimate) if math.isfinite(estimate) and estimate > 0 else None

    def frames() -> Frames:
        try:
            run = first
            while isinstance(run[-1], Frame):
                yield from run
                run = pictures.next_run()
        finally:
            capture.release()
        # The frames that failed last may be none at all: behind the end of a file every read fails.
        count = run[0].index
        if missing := missing_bytes(path):
            raise DataError(
                f"{path} was cut off: {missing} bytes are missing behind its frame {count}.",
                "copy the video again; the frames up to there were inspected",
            )
        if length is not None and count < length - _TOLERATED_MISSING_FRAMES:
            _say_fewer(path, count, length)

    return Source(printable(str(path)), frames(), length=length, fps=_rate(capture, FOLDER_FPS))


def _say_fewer(path: Path, count: int, length: int) -> None:
    """Log that a video gave fewer frames than its container promised."""
    if has_index(path):
        _log.warning(
            "%s lists %d frames and %d could be read; it may be damaged, or was trimmed without "
            "being encoded again.",
            *(path, length, count),
        )
    else:
        _log.info(
            "%s: %d frames were read; about %d follow from its duration, which says little where "
            "the frame rate varies.",
            *(path, count, length),
        )


def open_network(uri: str) -> Source:
    """A camera or server on the network.

    Raises:
        UsageError: the address holds characters that no address has.
        DataError: the device does not answer, or refuses.
    """
    if not uri.isprintable():  # OpenCV does not survive bytes that are not UTF-8
        raise UsageError(
            f"{without_secrets(printable(uri))} holds characters that no address has.",
            "write them as % and two hexadecimal digits",
        )
    # FFmpeg would take any certificate. Options that the user has set are left as they are.
    os.environ.setdefault(_FFMPEG_OPTIONS, ffmpeg_options())
    _check_certificate(uri)
    with NOISE.dropped():
        capture = cv2.VideoCapture(uri, cv2.CAP_FFMPEG, _NETWORK_OPTIONS)
    if not capture.isOpened():
        next_step = "check the address, the password and that the device is switched on"
        if has_unclear_password(uri):
            next_step = "write / ? # @ in a password as %2F %3F %23 %40, then try again"
        raise DataError(f"cannot open {without_secrets(uri)}.", next_step)
    return live(without_secrets(uri), capture)


def ffmpeg_options() -> str:
    """Options of FFmpeg for the network, as OpenCV takes them: certificates are checked.

    Those of `SSL_CERT_FILE` are trusted if it is set, else those that the system trusts.
    """
    options = ["rtsp_transport;tcp", _CHECKED]
    if found := _authorities():
        options.append(f"ca_file;{found}")
    return "|".join(options)


def _authorities() -> str | None:
    """The file with the certificates of those who are trusted."""
    known = (
        os.environ.get("SSL_CERT_FILE"),
        ssl.get_default_verify_paths().cafile,
        *_AUTHORITIES,
    )
    return next((path for path in known if path and os.path.isfile(path)), None)


def _check_certificate(uri: str) -> None:
    """Look at the certificate of a server behind TLS before FFmpeg does.

    FFmpeg says nothing of why it refuses one and compares no numbers with it; that of OpenCV 4.12
    compares no names either.

    Raises:
        DataError: nobody who is trusted vouches for it, or it is of another host.
    """
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port or _TLS_PORTS.get(parts.scheme.lower())
    except ValueError:  # an address that FFmpeg may understand
        return
    if parts.scheme.lower() not in _TLS_PORTS or not host or not port:
        return
    if _CHECKED not in os.environ.get(_FFMPEG_OPTIONS, ""):
        return
    context = ssl.create_default_context(cafile=_authorities())
    # From Python 3.13 on it would refuse what devices leave out of the certificates they make.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    try:
        with (
            socket.create_connection((host, port), _CONNECT_S) as plain,
            context.wrap_socket(plain, server_hostname=host),
        ):
            pass
    except ssl.SSLCertVerificationError as error:
        raise DataError(
            f"the certificate of {host} does not hold: {error.verify_message.rstrip('.')}.",
            "if the device made it itself, put it into a file and name that in SSL_CERT_FILE; the "
            "address has to be the one in the certificate",
        ) from None
    except OSError:
        pass  # what else is wrong the opening itself will meet


class _Pictures:
    """Reads of a capture, one after the other, each of which may fail."""

    def __init__(self, capture: cv2.VideoCapture, name: str) -> None:
        self._capture = capture
        self._name = name
        self._indices = itertools.count()

    def next(self) -> Frame | Unreadable:
        """The next picture, or why there is none."""
        index = next(self._indices)
        name = f"{self._name}#{index:06d}"
        try:
            image = self._grab()
        except Exception as error:  # a decoder may raise anything on damaged bytes
            return Unreadable(name, index, now(), _unreadable(name, str(error) or repr(error)))
        if image is None:
            return Unreadable(name, index, now(), _unreadable(name, "it is damaged or missing"))
        return Frame(image, name, index, now())

    def next_run(self, patience_s: float = math.inf) -> list[Frame | Unreadable]:
        """The next picture after reads that failed; no picture after too many failures.

        Args:
            patience_s: after so many seconds without a picture the next failure is the end.
        """
        run: list[Frame | Unreadable] = []
        started = time.monotonic()
        while True:
            run.append(self.next())
            if isinstance(run[-1], Frame) or len(run) == _FAILED_READS:
                return run
            if time.monotonic() - started > patience_s:
                return run

    def _grab(self) -> NDArray[np.uint8] | None:
        with NOISE.dropped():
            was_read, image = self._capture.read()
        return as_frame(image, self._name) if was_read and image is not None else None


def _unreadable(name: str, reason: str) -> DataError:
    reason = printable(reason.strip().rstrip("."))
    return DataError(
        f"{name} cannot be read: {reason}.",
        "if it happens often, check the camera, its cable, the network or the recording",
    )


def live(name: str, capture: cv2.VideoCapture) -> Source:
    """A source without an end; if it ends, that is an error."""
    pictures = _Pictures(capture, name)

    def frames() -> Frames:
        count = 0
        try:
            run = pictures.next_run(_SILENCE_S)
            while isinstance(run[-1], Frame):
                yield from run
                count += 1
                run = pictures.next_run(_SILENCE_S)
        finally:
            capture.release()
        raise DataError(
            f"{name} stopped after {count} frames.",
            "check its cable, power and network, then start again",
        )

    return Source(name, frames(), live=True, fps=_rate(capture, _LIVE_FPS))


def _capture_of(path: Path) -> cv2.VideoCapture:
    """OpenCV takes only names in UTF-8. Any other file is opened here and named by its number."""
    name = os.path.abspath(path)  # of `http:a.mp4`, it would take the beginning for a protocol
    try:
        if os.fsencode(name) == name.encode():
            return cv2.VideoCapture(name)
    except UnicodeEncodeError:
        pass
    try:
        with path.open("rb") as file:
            return cv2.VideoCapture(f"/proc/self/fd/{file.fileno()}")
    except OSError as error:
        raise DataError(
            f"cannot read {path}: {error.strerror}.", "check the path and its permissions"
        ) from error


def _rate(capture: cv2.VideoCapture, default: float) -> float:
    fps = float(capture.get(cv2.CAP_PROP_FPS))
    return fps if math.isfinite(fps) and 1 <= fps <= 240 else default
