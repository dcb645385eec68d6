"""Inspection on a real Triton Inference Server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import make_tiny_bundle
from triton_server import TritonServer, unpacked

from dad_edge.bundle import Bundle, write_thresholds
from dad_edge.errors import DataError, DeviceError, ModelError
from dad_edge.runtime.inspector import open_inspector
from dad_edge.triton import engine
from dad_edge.triton.engine import TritonInspector, ask_servers
from dad_edge.triton.repository import export_version

grpc: Any = pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")

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


@pytest.fixture
def inspector(server: TritonServer, bundle: Bundle) -> Iterator[TritonInspector]:
    with ask_servers(bundle, f"{server.address}/{MODEL}") as inspector:
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


def test_another_bundle_is_refused(
    server: TritonServer, tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    zeros = np.zeros(32, np.uint8)
    monkeypatch.setattr(engine, "digest_of", lambda _: zeros)
    with pytest.raises(ModelError, match="inspects with another bundle"):
        ask_servers(bundle, f"{server.address}/{MODEL}")
    monkeypatch.setattr(engine, "PATIENCE_S", 0.2)
    with pytest.raises(DeviceError, match="gave no answer") as caught:
        ask_servers(bundle, f"{server.address}/screws")
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
    inspector: TritonInspector, server: TritonServer, bundle: Bundle, tmp_path: Path
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
