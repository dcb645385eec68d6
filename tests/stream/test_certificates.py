"""Cameras behind TLS: a certificate that nobody vouches for is refused."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.errors import DataError
from dad_edge.stream.captures import ffmpeg_options, open_network

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="openssl is not installed")

OPEN = """
import sys
from dad_edge.stream.captures import open_network
from dad_edge.stream.frames import Frame
print(isinstance(next(open_network(sys.argv[1]).frames), Frame))
"""
"""In a process of its own: OpenCV reads the variable of the environment there."""


@pytest.fixture(autouse=True)
def _usual_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not set, as in a new process, and again as it was afterwards."""
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "")
    monkeypatch.delenv("OPENCV_FFMPEG_CAPTURE_OPTIONS")


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that refuse the certificate leave in the middle."""


@contextmanager
def _serve(folder: Path, host: str) -> Iterator[tuple[str, Path]]:
    """Address of a video behind TLS on localhost, and the certificate, made for a host."""
    key, certificate = folder / f"{host}-key.pem", folder / f"{host}.pem"
    assert OPENSSL is not None
    made = [OPENSSL, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    named = ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*made, *named, *files], check=True, capture_output=True)
    shown = folder / "shown"
    shown.mkdir(exist_ok=True)
    fourcc = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(shown / "camera.mp4"), fourcc, 25.0, (64, 48))
    for value in range(10):
        writer.write(np.full((48, 64, 3), 20 * value, np.uint8))
    writer.release()
    server = _Server(("127.0.0.1", 0), partial(_Quiet, directory=str(shown)))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"https://localhost:{server.server_port}/camera.mp4", certificate
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    with _serve(tmp_path_factory.mktemp("camera"), "localhost") as served:
        yield served


def test_a_certificate_that_nobody_vouches_for_is_refused(
    camera: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with pytest.raises(DataError, match="the certificate of localhost does not hold") as caught:
        open_network(camera[0])
    assert "SSL_CERT_FILE" in caught.value.next_step


def test_one_that_the_user_named_is_accepted(
    camera: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(camera[1]))
    assert ffmpeg_options() == f"rtsp_transport;tcp|tls_verify;1|ca_file;{camera[1]}"
    command = [sys.executable, "-c", OPEN, camera[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr


def test_one_of_another_host_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with _serve(tmp_path, "another-camera.example") as (address, certificate):
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        command = [sys.executable, "-c", OPEN, address]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "the certificate of localhost does not hold: Hostname mismatch" in done.stderr


def test_a_number_is_compared_too(
    camera: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(camera[1]))
    with pytest.raises(DataError, match=r"of 127\.0\.0\.1 does not hold: IP address mismatch"):
        open_network(camera[0].replace("localhost", "127.0.0.1"))


def test_options_of_the_user_stay(
    camera: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    command = [sys.executable, "-c", OPEN, camera[0]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "True\n", done.stderr
