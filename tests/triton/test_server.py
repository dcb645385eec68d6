"""Inspection on a real Triton Inference Server."""

from __future__ import annotations

import errno
import ipaddress
import itertools
import os
import socket
import socketserver
import ssl
import threading
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_tiny_bundle
from triton_server import TritonServer, unpacked

from dad_edge.bundle import Bundle, write_thresholds
from dad_edge.errors import DataError, DeviceError, ModelError
from dad_edge.runtime.inspector import open_inspector
from dad_edge.triton import engine, shared
from dad_edge.triton.engine import TritonInspector, ask_servers
from dad_edge.triton.repository import export_version

grpc: Any = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")

MODEL = "bolts"


def frames_of(count: int) -> list[np.ndarray]:
    """Frames of several sizes, each of another brightness."""
    return [
        np.full((20 + 3 * (index % 4), 30, 3), 255 * index // count, np.uint8)
        for index in range(count)
    ]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_tiny_bundle(tmp_path_factory.mktemp("line") / "bundle")


@pytest.fixture
def server(tmp_path: Path, bundle: Bundle) -> Iterator[TritonServer]:
    unpacked()
    export_version(bundle, tmp_path / "models", MODEL)
    server = TritonServer(tmp_path / "models", tmp_path)
    server.start()
    yield server
    server.stop()


def address_of(server: TritonServer, scheme: str) -> str:
    port = server.http_port if scheme.startswith("http") else server.port
    return f"{scheme}://127.0.0.1:{port}/{MODEL}"


@pytest.fixture(params=["triton", "http"])
def inspector(
    request: pytest.FixtureRequest, server: TritonServer, bundle: Bundle
) -> Iterator[TritonInspector]:
    with ask_servers(bundle, address_of(server, request.param)) as inspector:
        assert isinstance(inspector, TritonInspector)
        yield inspector


def scores_of(bundle: Bundle, frames: list[np.ndarray]) -> list[float]:
    with open_inspector(bundle) as local:
        return [local.inspect(frame).score for frame in frames]


def versions(server: TritonServer) -> list[str]:
    with grpc.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        return list(client.get_model_metadata(MODEL).versions)


def test_it_is_the_local_inspector(inspector: TritonInspector, bundle: Bundle) -> None:
    frames = frames_of(9)
    with open_inspector(bundle) as local:
        expected = local.inspect_batch(frames)
    for found, wanted in zip(inspector.inspect_batch(frames), expected, strict=True):
        assert (found.score, found.verdict) == (wanted.score, wanted.verdict)
        np.testing.assert_array_equal(found.score_map, wanted.score_map)
        np.testing.assert_array_equal(found.heat, wanted.heat)
    assert {each.verdict for each in expected} == {"good", "defect"}
    with pytest.raises(DataError, match=r"\(H,W,3\) uint8 BGR"):
        inspector.inspect(np.zeros((4, 4), np.uint8))


def test_frames_on_their_way_are_gathered(
    inspector: TritonInspector, server: TritonServer, bundle: Bundle
) -> None:
    frames = [frames_of(4)[0]] * 8
    for _ in range(20):
        inspector.inspect_batch(frames)
    with grpc.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        [seen] = client.get_inference_statistics(MODEL).model_stats
    assert seen.inference_count >= 160
    assert seen.execution_count < seen.inference_count


def regions(server: TritonServer) -> int:
    with grpc.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        return len(client.get_system_shared_memory_status().regions)


@pytest.fixture
def own_regions(monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Path]]:
    """The files of this test's regions; other tests have theirs beside it."""
    tag, numbers = uuid.uuid4().hex, itertools.count()
    monkeypatch.setattr(shared.secrets, "token_hex", lambda _: f"{tag}-{next(numbers)}")
    return lambda: list(Path("/dev/shm").glob(f"dad-edge-{tag}-*"))


def test_frames_for_a_server_on_this_machine_are_shared(
    server: TritonServer,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
    own_regions: Callable[[], list[Path]],
) -> None:
    frames = frames_of(5)
    expected = scores_of(bundle, frames)
    address = address_of(server, "triton")
    with ask_servers(bundle, address) as inspector:
        for _ in range(3):
            assert [each.score for each in inspector.inspect_batch(frames)] == expected
        assert 1 <= regions(server) <= len(frames) + 1, "used again, not made anew"
    server.wait_for(lambda: regions(server) == 0, 10)
    assert own_regions() == []

    def none_left(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "posix_fallocate", none_left)
        with ask_servers(bundle, address) as inspector:
            assert [each.score for each in inspector.inspect_batch(frames)] == expected
            assert regions(server) == 0
    assert own_regions() == []
    register = grpc.InferenceServerClient.register_system_shared_memory

    def elsewhere(client: Any, name: str, key: str, *rest: Any, **options: Any) -> None:
        register(client, name, key + "-that-it-does-not-see", *rest, **options)

    monkeypatch.setattr(grpc.InferenceServerClient, "register_system_shared_memory", elsewhere)
    with ask_servers(bundle, address) as inspector:
        assert [each.score for each in inspector.inspect_batch(frames)] == expected
        assert regions(server) == 0
    assert own_regions() == []


def test_frames_on_their_way_when_it_closes_leave_nothing(
    server: TritonServer, bundle: Bundle, own_regions: Callable[[], list[Path]]
) -> None:
    inspector = ask_servers(bundle, address_of(server, "triton"))
    on_their_way = inspector.submit(frames_of(6))
    assert own_regions() != []
    inspector.close()
    for _, future in on_their_way:
        future.exception(timeout=30)
    server.wait_for(lambda: own_regions() == [])


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """A certificate of 127.0.0.1 that vouches for itself, and its key."""
    pytest.importorskip("cryptography", reason="cryptography is not installed (extra 'sign')")
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a server")])
    now = datetime.now(timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    paths = folder / "server.crt", folder / "server.key"
    paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return paths


def encrypt(port: int, certificate: Path, key: Path) -> int:
    """Let a port be reached with TLS at another one, as behind a proxy; that one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    class Proxy(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            try:
                client = context.wrap_socket(self.request, server_side=True)
            except ssl.SSLError:
                return
            with client, socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=copy, args=(server, client), daemon=True)
                back.start()
                copy(client, server)

    def copy(source: socket.socket, target: socket.socket) -> None:
        try:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            return

    proxy = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Proxy)
    proxy.daemon_threads = True
    threading.Thread(target=proxy.serve_forever, daemon=True).start()
    return int(proxy.server_address[1])


def test_with_tls_a_server_has_to_be_trusted(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    unpacked()
    certificate, key = make_certificate(tmp_path)
    export_version(bundle, tmp_path / "models", MODEL)
    options = (
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={certificate}",
        f"--grpc-server-key={key}",
    )
    server = TritonServer(tmp_path / "models", tmp_path, options)
    server.start()
    frames = frames_of(3)
    monkeypatch.setattr(engine, "PATIENCE_S", 1.0)
    try:
        at = encrypt(server.http_port, certificate, key)
        for address in (address_of(server, "grpcs"), f"https://127.0.0.1:{at}/{MODEL}"):
            with pytest.raises(DeviceError, match="gave no answer"):
                ask_servers(bundle, address)
            with monkeypatch.context() as patch:
                patch.setenv("SSL_CERT_FILE", str(certificate))
                with ask_servers(bundle, address) as inspector:
                    found = [each.score for each in inspector.inspect_batch(frames)]
            assert found == scores_of(bundle, frames)
    finally:
        server.stop()


@pytest.mark.parametrize("scheme", ["triton", "http"])
def test_another_bundle_is_refused(
    server: TritonServer, bundle: Bundle, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    address = address_of(server, scheme)
    zeros = np.zeros(32, np.uint8)
    monkeypatch.setattr(engine, "digest_of", lambda _: zeros)
    with pytest.raises(ModelError, match="inspects with another bundle"):
        ask_servers(bundle, address)
    monkeypatch.setattr(engine, "PATIENCE_S", 0.2)
    with pytest.raises(DeviceError, match="gave no answer") as caught:
        ask_servers(bundle, address.replace(MODEL, "screws"))
    assert "serves screws" in caught.value.next_step


def test_a_server_that_is_killed_and_comes_back_loses_no_frame(
    inspector: TritonInspector,
    server: TritonServer,
    bundle: Bundle,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(engine, "PATIENCE_S", 200.0)
    frames = frames_of(12)
    found = [inspector.inspect(frame).score for frame in frames[:4]]
    on_their_way = inspector.submit(frames[4:8])
    server.kill()
    restart = threading.Thread(target=server.start)
    restart.start()
    found += [each.score for each in inspector.collect(on_their_way)]
    found += [inspector.inspect(frame).score for frame in frames[8:]]
    restart.join()
    assert found == scores_of(bundle, frames)


def test_a_second_server_takes_over(
    server: TritonServer, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = TritonServer(server.repository, tmp_path / "other")
    other.start()
    try:
        both = f"triton://127.0.0.1:{server.port},127.0.0.1:{other.port}/{MODEL}"
        with ask_servers(bundle, both) as inspector:
            assert str(server.port) in inspector.backend
            server.kill()
            frames = frames_of(3)
            found = [inspector.inspect(frame).score for frame in frames]
            assert found == scores_of(bundle, frames)
            assert str(other.port) in inspector.backend
            other.kill()
            monkeypatch.setattr(engine, "PATIENCE_S", 0.5)
            with pytest.raises(DeviceError, match="gave no answer"):
                inspector.inspect(frames[0])
    finally:
        other.stop()


def test_versions_change_under_load_and_a_broken_one_does_not_come(
    server: TritonServer, bundle: Bundle, tmp_path: Path
) -> None:
    frames = frames_of(5)
    expected = scores_of(bundle, frames)
    wrong: list[object] = []
    rounds, ended = [0], threading.Event()

    def load() -> None:
        with ask_servers(bundle, f"{server.address}/{MODEL}") as own:
            while not ended.is_set():
                try:
                    if [each.score for each in own.inspect_batch(frames)] != expected:
                        wrong.append("another score")
                except Exception as error:
                    wrong.append(error)
                rounds[0] += 1

    def goes_on() -> None:
        before = rounds[0]
        server.wait_for(lambda: rounds[0] > before + 2)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        goes_on()
        thresholds = bundle.thresholds
        assert thresholds is not None
        write_thresholds(bundle, thresholds)
        export_version(bundle, server.repository, MODEL)
        server.wait_for(lambda: versions(server) == ["2"])
        goes_on()
        broken = make_tiny_bundle(tmp_path / "broken")
        (broken.path / "segmenter.onnx").write_bytes(b"damaged")
        export_version(broken, server.repository, MODEL)
        server.wait_for(lambda: "failed to load" in server.log)
        goes_on()
        assert versions(server) == ["2"]
    finally:
        ended.set()
        thread.join()
    assert wrong == []
