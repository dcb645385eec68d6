from __future__ import annotations

import errno
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dad_edge import build as stage
from dad_edge.build import Target, build, find_target
from dad_edge.bundle import ENGINES, Bundle
from dad_edge.errors import (
    DeviceError,
    Interrupted,
    MissingDependency,
    ModelError,
    StorageError,
    UsageError,
)
from dad_edge.runtime.engines import check_engine, list_engines

CPU = Target(runtime="onnxruntime")


def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import dad_edge.gpu

    monkeypatch.setattr(dad_edge.gpu, "load_driver", lambda: None)


def test_engine_holds_what_its_sidecar_says(tiny_bundle: Bundle) -> None:
    sidecar = build(tiny_bundle, "fp16", CPU)
    folder = tiny_bundle.path / ENGINES / sidecar.name
    assert check_engine(tiny_bundle, sidecar.name) == sidecar
    assert sorted(p.name for p in folder.iterdir()) == [
        "denoiser.onnx",
        "engine.json",
        "segmenter.onnx",
    ]
    assert sidecar.files["denoiser.onnx"].bytes == (folder / "denoiser.onnx").stat().st_size
    assert sidecar.onnx_sha256 == tiny_bundle.onnx_digests
    assert sidecar.peak_memory_mib > 1


def test_without_a_gpu_the_engine_is_for_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    assert find_target() == CPU
    assert find_target().device == "cpu"


def test_arguments_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    with pytest.raises(UsageError, match="which onnxruntime cannot do"):
        find_target("onnxruntime", ("8.6",))
    with pytest.raises(UsageError, match="ONNX Runtime has none"):
        find_target("onnxruntime", workspace_mib=64)


def test_tensorrt_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr("dad_edge.errors.importlib.import_module", absent)
    with pytest.raises(MissingDependency, match="'tensorrt' is not installed") as caught:
        find_target("tensorrt")
    assert "dad-edge[tensorrt]" in caught.value.next_step


def test_a_gpu_target_without_a_gpu_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    monkeypatch.setattr(stage, "load_tensorrt", lambda runtime: None)
    with pytest.raises(DeviceError, match="no NVIDIA") as caught:
        find_target("tensorrt-rtx")
    assert "--compute-capability" in caught.value.next_step


def test_a_full_disk_leaves_no_engine(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="disk is full"):
        build(tiny_bundle, "fp16", CPU)
    assert list((tiny_bundle.path / ENGINES).iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_storage_error(tiny_bundle: Bundle) -> None:
    (tiny_bundle.path / ENGINES).write_text("in the way")
    with pytest.raises(StorageError, match="in the way"):
        build(tiny_bundle, "fp16", CPU)


def test_a_failed_build_keeps_the_engine_that_was_there(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    sidecar = build(tiny_bundle, "fp16", CPU)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise ModelError("broken.", "mend it")

    monkeypatch.setattr(stage, "typed_graph", broken)
    with pytest.raises(ModelError, match="broken"):
        build(tiny_bundle, "fp16", CPU)
    assert check_engine(tiny_bundle, sidecar.name) == sidecar
    assert len(list((tiny_bundle.path / ENGINES).iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_written_engine(
    tiny_bundle: Bundle, number: signal.Signals
) -> None:
    with pytest.raises(Interrupted) as caught:
        build(tiny_bundle, "fp16", CPU, lambda phase: os.kill(os.getpid(), number))
    assert caught.value.exit_code == 128 + number
    assert list((tiny_bundle.path / ENGINES).iterdir()) == []


def test_builds_at_once_do_not_disturb_each_other(tiny_bundle: Bundle) -> None:
    start = threading.Barrier(4)

    def one(_: int) -> str:
        start.wait()
        return build(tiny_bundle, "fp16", CPU).name

    with ThreadPoolExecutor(4) as pool:
        names = set(pool.map(one, range(4)))
    assert list_engines(tiny_bundle) == sorted(names)
    assert len(names) == 1
    check_engine(tiny_bundle, names.pop())
    assert len(list((tiny_bundle.path / ENGINES).iterdir())) == 1
