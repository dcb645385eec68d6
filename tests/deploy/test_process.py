"""Builds in processes of their own, by a stand-in for TensorRT that can crash or wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_networks import make_network_bundle

from dad_edge.bundle import DENOISER, ENGINES, REPORTS, SEGMENTER, Bundle, open_bundle
from dad_edge.deploy import build as stage
from dad_edge.deploy.build import Target, build, find_target
from dad_edge.errors import DeviceError, Interrupted
from dad_edge.kernels.compile import AMPERE_PLUS, supported_architectures
from dad_edge.runtime.sidecar import BuilderOptions, EngineFile, list_engines, read_sidecar

STAND_IN = Path(__file__).parents[1] / "support" / "stand_in"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cubins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The CUDA kernels, which are compiled once for all tests."""
    return tmp_path_factory.mktemp("cubins")


@pytest.fixture
def bundle(tmp_path: Path, cubins: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    pytest.importorskip("cuda.core", reason="cuda-core is not installed (extra 'cuda')")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache/dad-edge").mkdir(parents=True)
    (tmp_path / "cache/dad-edge/cubins").symlink_to(cubins)
    monkeypatch.syspath_prepend(str(STAND_IN))
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    monkeypatch.setattr(stage, "local_capability", lambda: "8.7")
    return make_network_bundle(tmp_path / "bundle")


def _target(**options: object) -> Target:
    return find_target("tensorrt", options=BuilderOptions(**options))  # type: ignore[arg-type]


def _told(bundle: Bundle, graph: str = "denoiser") -> dict[str, object]:
    (name,) = list_engines(bundle)
    told: dict[str, object] = json.loads(
        (bundle.path / ENGINES / name / f"{graph}.plan").read_text()
    )
    return told


def _leftovers(bundle: Bundle) -> list[str]:
    folder = bundle.path / ENGINES
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_builder_gets_the_profiles_and_options(bundle: Bundle) -> None:
    options = {"workspace_mib": 3, "optimization_level": 5, "version_compatible": True}
    sidecar = build(bundle, "fp16", _target(**options))
    assert _told(bundle) == {
        "profiles": [[2, 2, 2], [4, 4, 4], [6, 8, 8], [10, 16, 16]],
        "flags": ["VERSION_COMPATIBLE"],
        "WORKSPACE": 3 << 20,
        "cache": "",
        "level": 5,
        "hardware": "NONE",
    }
    assert read_sidecar(bundle, sidecar.name) == sidecar
    assert sidecar.options == BuilderOptions(**options)  # type: ignore[arg-type]
    assert sidecar.peak_memory_mib > 10
    log = bundle.path / ENGINES / sidecar.name / "build.log"
    assert log.read_text() == "started\nstarted\n"


def test_the_peak_memory_is_that_of_the_builder_alone(bundle: Bundle) -> None:
    held = np.ones(64 << 20)  # 512 MiB, more than the child needs
    assert build(bundle, "fp16", _target()).peak_memory_mib < held.nbytes / 2**20


def test_a_hardware_compatible_plan_is_named_for_all_its_gpus(bundle: Bundle) -> None:
    name = build(bundle, "fp16", _target(hardware_compatible=True)).name
    assert name == "ampere-plus-tensorrt-10.3.0-fp16"
    assert _told(bundle)["hardware"] == "AMPERE_PLUS"
    sidecar = read_sidecar(bundle, name)
    assert sidecar.gpu == ""
    architectures = {file.removesuffix(".cubin").split("-")[1] for file in sidecar.kernels}
    known = set(supported_architectures())
    assert architectures == set(AMPERE_PLUS) & known >= {"sm_80", "sm_86", "sm_89", "sm_90"}
    assert "sm_87" not in architectures, "no Jetson opens such a plan"


def test_an_int8_engine_that_moves_more_than_fp16_is_said_to(bundle: Bundle) -> None:
    half = build(bundle, "fp16", _target())
    frame = 2 * 8 * 10 * 10 * (2 + 4) + 2 * 8 * 8  # of the list that the stand-in gives
    assert half.traffic_bytes == 2 * frame
    assert "a frame moves 0 MB" in stage.in_words(half)
    name = half.name.removesuffix("fp16") + "int8"
    file = EngineFile(name="a.plan", sha256="", bytes=1, traffic_bytes=half.traffic_bytes)
    both = {DENOISER: file, SEGMENTER: replace(file, traffic_bytes=3_000_000)}
    slow = replace(half, precision="int8", files=both)
    assert slow.name == name
    warning = stage.predicted_slower(bundle, slow)
    assert warning is not None
    assert "a frame moves 3 MB through memory" in warning
    assert half.name in warning
    assert stage.predicted_slower(bundle, half) is None
    fast = replace(slow, files={DENOISER: replace(file, traffic_bytes=1)})
    assert stage.predicted_slower(bundle, fast) is None
    unknown = replace(slow, files={**both, DENOISER: replace(file, traffic_bytes=None)})
    assert stage.predicted_slower(bundle, unknown) is None


def test_the_gpu_that_the_kernels_were_chosen_on_is_recorded(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    orin = {"name": "Orin", "compute_capability": "8.7", "multiprocessors": 16}
    monkeypatch.setattr(stage, "describe_nvidia", lambda: {"gpus": [orin]})
    sidecar = build(bundle, "fp16", _target())
    assert (sidecar.gpu, sidecar.multiprocessors) == ("Orin", 16)
    sidecar = build(bundle, "fp16", _target(hardware_compatible=True))
    assert (sidecar.gpu, sidecar.multiprocessors) == ("", 0)


def test_timings_are_kept_for_the_next_build(bundle: Bundle, tmp_path: Path) -> None:
    build(bundle, "fp16", _target())
    assert _told(bundle, "segmenter")["cache"] == "+"
    (kept,) = (tmp_path / "cache/dad-edge/timings").iterdir()
    assert kept.name == "tensorrt-10.3.0-sm87"
    assert kept.read_text() == "++"
    for useless in (b"of another version", b"of another device"):
        kept.write_bytes(useless)
        build(bundle, "fp16", _target())
        assert _told(bundle)["cache"] == ""


@pytest.mark.parametrize(
    ("does", "reason"),
    [
        ("kill", "killed, most likely because memory ran out"),
        ("crash", "crashed with SIGABRT; its last line: "),
        ("fail", "could not build denoiser.onnx: Tactic needs more memory"),
    ],
)
def test_a_builder_that_dies_leaves_a_reason_and_a_log_but_no_engine(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, does: str, reason: str
) -> None:
    monkeypatch.setenv("STAND_IN", does)
    with pytest.raises(DeviceError, match=reason):
        build(bundle, "fp16", _target())
    assert _leftovers(bundle) == []
    log = bundle.path / REPORTS / "sm87-tensorrt-10.3.0-fp16/build.log"
    assert log.read_text().startswith("started")


@pytest.mark.parametrize(
    ("does", "number"),
    [("wait", signal.SIGINT), ("wait", signal.SIGTERM), ("stick", signal.SIGTERM)],
)
def test_a_signal_ends_the_builder(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, does: str, number: signal.Signals
) -> None:
    monkeypatch.setenv("STAND_IN", does)
    sent: list[str] = []

    def interrupt(done: float, total: float, note: str) -> None:
        if "Building engine" in note and not sent:
            sent.append(note)
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        build(bundle, "fp16", _target(), interrupt)
    assert caught.value.exit_code == 128 + number
    assert _leftovers(bundle) == []
    assert not (bundle.path / REPORTS).exists(), "an interruption needs no explanation"


COMMAND = """
import sys
from pathlib import Path
from dad_edge.deploy import build as stage
stage.local_capability = lambda: "8.7"
from dad_edge.cli.main import main
sys.argv = ["dad-edge", "build", "--precision", "fp16", "--runtime", "tensorrt",
            "--bundle", sys.argv[1]]
main()
"""


def _start(bundle: Bundle, *before: str) -> subprocess.Popen[str]:
    """`dad-edge build` in a process of its own."""
    paths = os.pathsep.join((str(ROOT), str(STAND_IN)))
    return subprocess.Popen(
        [*before, sys.executable, "-c", COMMAND, str(bundle.path)],
        env={**os.environ, "PYTHONPATH": paths},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_two_processes_at_once_leave_one_whole_engine(bundle: Bundle) -> None:
    both = [_start(bundle), _start(bundle)]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
    assert _leftovers(bundle) == ["sm87-tensorrt-10.3.0-fp16"]
    sidecar = read_sidecar(open_bundle(bundle.path), "sm87-tensorrt-10.3.0-fp16")
    for file in sidecar.files.values():
        path = bundle.path / ENGINES / sidecar.name / file.name
        assert path.stat().st_size == file.bytes


def test_a_build_that_nobody_waits_for_ends(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STAND_IN", "wait")
    process = _start(bundle)
    deadline = time.monotonic() + 60
    while not list((bundle.path / ENGINES).glob(".*/build.log")):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (log,) = (bundle.path / ENGINES).glob(".*/build.log")
    while "started" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.communicate()
    assert list_engines(bundle) == []
    while _holds_open(log):
        assert time.monotonic() < deadline, "the builder goes on without its parent"
        time.sleep(0.05)


def _holds_open(path: Path) -> bool:
    """Whether some process has a file open."""
    for link in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if link.samefile(path):
                return True
        except OSError:
            continue
    return False


def test_a_really_full_disk_is_an_error(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mount = f"mount -t tmpfs -o size=512k none {small}"
    inside = ["unshare", "--mount", "--map-root-user", "sh", "-ec"]
    try:
        subprocess.run([*inside, mount], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no small file system can be mounted here: {error}")
    monkeypatch.setenv("STAND_IN", "big")
    copied = f"{mount}; cp -r {bundle.path} {small}"
    script = f'{copied}; "$@" || echo code $?; ls -A {small}/bundle/engines'
    moved = Bundle(small / "bundle", bundle.manifest, None, None)
    printed, errors = _start(moved, *inside, script, "sh").communicate(timeout=120)
    assert printed == "code 7\n"
    assert "error: cannot write" in errors
    assert "the disk is full" in errors
