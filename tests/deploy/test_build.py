from __future__ import annotations

import errno
import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from dad_edge.bundle import ENGINES, Bundle
from dad_edge.deploy import build as stage
from dad_edge.deploy.build import Target, build, find_target
from dad_edge.errors import (
    DeviceError,
    Interrupted,
    MissingDependency,
    ModelError,
    StorageError,
    UsageError,
)
from dad_edge.runtime.engines import check_engine
from dad_edge.runtime.sidecar import BuilderOptions, list_engines

CPU = Target(runtime="onnxruntime")


def _no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    import dad_edge.machine.gpu

    monkeypatch.setattr(dad_edge.machine.gpu, "load_driver", lambda: None)


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


def test_int8_on_a_cpu_is_for_openvino_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _no_gpu(monkeypatch)
    installed = {"openvino"}
    monkeypatch.setattr(stage.importlib.util, "find_spec", lambda name: name in installed or None)
    monkeypatch.setattr(stage, "cpu_runtime_version", lambda runtime: "1.2.3")
    assert find_target(precision="int8").runtime == "openvino"
    assert find_target(precision="fp16").runtime == "onnxruntime"
    installed.clear()
    assert find_target(precision="int8").runtime == "onnxruntime"


def test_arguments_that_do_not_fit_together_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    with pytest.raises(UsageError, match="which onnxruntime cannot do"):
        find_target("onnxruntime", ("8.6",))
    with pytest.raises(UsageError, match="ONNX Runtime has none"):
        find_target("onnxruntime", options=BuilderOptions(workspace_mib=64))
    with pytest.raises(UsageError, match="no --optimization-level"):
        find_target("tensorrt-rtx", ("8.6",), options=BuilderOptions(optimization_level=5))
    with pytest.raises(UsageError, match="is 6, not 0 to 5"):
        find_target("tensorrt", options=BuilderOptions(optimization_level=6))
    with pytest.raises(UsageError, match="--frames is 0, below 1"):
        find_target("tensorrt", frames=(0, 4))


def test_tensorrt_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ModuleNotFoundError(name, name=name)

    monkeypatch.setattr("dad_edge.packages.importlib.import_module", absent)
    with pytest.raises(MissingDependency, match="'tensorrt' is not installed") as caught:
        find_target("tensorrt")
    assert "dad-edge[tensorrt]" in caught.value.next_step


def test_a_gpu_target_without_a_gpu_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    _no_gpu(monkeypatch)
    monkeypatch.setattr(stage, "load_tensorrt", lambda runtime: None)
    with pytest.raises(DeviceError, match="no NVIDIA") as caught:
        find_target("tensorrt-rtx")
    assert "--compute-capability" in caught.value.next_step


def test_scratch_memory_is_small_where_cpu_and_gpu_share_theirs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stage, "load_tensorrt", lambda runtime: None)
    monkeypatch.setattr(stage, "local_capability", lambda: "8.7")
    assert find_target("tensorrt").options.workspace_mib is None
    monkeypatch.setattr(stage, "shared_memory_mib", lambda: 8000)
    assert find_target("tensorrt").options.workspace_mib == 1000
    asked = BuilderOptions(workspace_mib=512)
    assert find_target("tensorrt", options=asked).options.workspace_mib == 512
    with pytest.raises(UsageError, match="no hardware-compatible plans on a Jetson"):
        find_target("tensorrt", options=BuilderOptions(hardware_compatible=True))


def test_every_batch_size_is_in_one_profile() -> None:
    target = Target(runtime="tensorrt", capabilities=("8.7",))
    assert target.profiles == ((1, 1, 1), (2, 2, 2), (3, 4, 4), (5, 8, 8))
    ahead = Target(runtime="tensorrt-rtx", capabilities=("8.6",), frames=(2, 4))
    assert ahead.profiles == ((1, 2, 4),)
    assert CPU.profiles == ()


def test_a_full_disk_leaves_no_engine(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(stage, "write_whole", full)
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

    monkeypatch.setattr(stage, "engine_graph", broken)
    with pytest.raises(ModelError, match="broken"):
        build(tiny_bundle, "fp16", CPU)
    assert check_engine(tiny_bundle, sidecar.name) == sidecar
    assert len(list((tiny_bundle.path / ENGINES).iterdir())) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_half_written_engine(
    tiny_bundle: Bundle, number: signal.Signals
) -> None:
    with pytest.raises(Interrupted) as caught:
        build(tiny_bundle, "fp16", CPU, lambda *_: os.kill(os.getpid(), number))
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
