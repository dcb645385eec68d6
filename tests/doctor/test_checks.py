from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from dad_edge.bundle import ENVIRONMENT_VARIABLE, SEGMENTER, THRESHOLDS, Bundle
from dad_edge.cli import main as cli
from dad_edge.doctor import checks as doctor
from dad_edge.doctor.checks import Check, examine
from dad_edge.doctor.table import doctor_table
from dad_edge.machine import windows

NOTHING: dict[str, dict[str, Any]] = {
    "torch": {"missing": "torch"},
    "openvino": {"missing": "openvino"},
    "tensorrt": {"missing": "tensorrt"},
    "tensorrt_rtx": {"missing": "tensorrt_rtx"},
    "cuda": {"missing": "cuda"},
    "opencv": {"version": "5.0", "window": None, "codecs": ["mp4v.mp4"]},
}
ORIN = {"name": "Orin", "compute_capability": "8.7", "memory_gib": 8.0}


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """Answers of the probes on the light install; a test may change them."""
    chosen = dict(NOTHING)
    monkeypatch.setattr(doctor, "ask", lambda name: chosen[name])
    return chosen


def _line(report: doctor.Diagnosis, name: str) -> Check:
    return next(check for check in report.checks if check.name == name)


def test_the_light_install_can_inspect(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    report = examine(tiny_bundle.path, tmp_path)
    assert report.exit_code == 0
    assert "ONNX Runtime" in _line(report, "inspect a frame").detail
    torch = _line(report, "PyTorch")
    assert (torch.state, torch.next_step) == ("not here", "pip install 'dad-edge[train]'")
    assert not [check for check in report.checks if check.state == "problem"]


def test_a_changed_bundle_is_a_problem_with_its_exit_code(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    (tiny_bundle.path / SEGMENTER).write_bytes(b"changed")
    report = examine(tiny_bundle.path, tmp_path)
    bundle = _line(report, "bundle")
    assert report.exit_code == 4
    assert bundle.state == "problem"
    assert bundle.detail.startswith("chosen by --bundle: ")
    assert "was changed" in bundle.detail
    assert "copy the whole bundle" in bundle.next_step
    assert _line(report, "CPU").state == "ok"


def test_an_empty_variable_is_a_problem_with_its_exit_code(
    tmp_path: Path, answers: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, "")
    report = examine(None, tmp_path)
    assert report.exit_code == 2
    assert _line(report, "bundle").detail == f"{ENVIRONMENT_VARIABLE} is set, but empty."


def test_a_bundle_without_thresholds_inspects_but_asks_for_calibration(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    (tiny_bundle.path / THRESHOLDS).unlink()
    report = examine(tiny_bundle.path, tmp_path)
    assert report.exit_code == 0
    assert "dad-edge calibrate" in _line(report, "thresholds").next_step


def test_a_core_package_that_does_not_import(
    tiny_bundle: Bundle,
    tmp_path: Path,
    answers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(module: str) -> str:
        return "libGL.so.1: cannot open shared object file" if module == "cv2" else ""

    monkeypatch.setattr(doctor, "_why_not_importable", broken)
    report = examine(tiny_bundle.path, tmp_path)
    assert report.exit_code == 5
    assert "apt-get install libgl1" in _line(report, "packages").next_step


def test_backends_say_why_they_cannot_run(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    answers["torch"] = {"version": "2.13.0", "cuda_built": "13.0", "gpus": []}
    answers["tensorrt"] = {"version": "11.4", "builder": False, "why": "nullptr"}
    answers["tensorrt_rtx"] = {"version": "1.7", "builder": True, "why": None}
    answers["openvino"] = {"error": "importing it crashed with SIGILL"}
    answers["cuda"] = {
        "version": "1.2",
        "compiles": True,
        "compile_error": None,
        "gpu": None,
        "why": "no libcuda",
    }
    blind = {"gpus": [], "reason": "no NVIDIA driver: libcuda.so.1 is not here"}
    lines = {check.name: check for check in doctor._backends(answers, blind)}
    assert "no NVIDIA driver" in lines["PyTorch CUDA"].detail
    assert "11.4 is installed; no NVIDIA driver" in lines["TensorRT"].detail
    assert (lines["OpenVINO"].state, lines["OpenVINO"].detail) == (
        "problem",
        "importing it crashed with SIGILL",
    )
    assert lines["OpenVINO"].next_step == "pip install --force-reinstall openvino"
    assert lines["TensorRT-RTX build"].state == "ok"
    assert lines["TensorRT-RTX run"].state == "not here"
    assert lines["CUDA kernels"].detail.endswith("they compile here")
    answers["cuda"] |= {"compiles": False, "compile_error": "no NVRTC"}
    lines = {check.name: check for check in doctor._backends(answers, blind)}
    assert lines["CUDA kernels"].detail.endswith("they do not compile here: no NVRTC")
    answers["cuda"] |= {"gpu": "Orin", "why": "NVRTC 13.5 is too new.", "next_step": "jetpack6"}
    lines = {check.name: check for check in doctor._backends(answers, blind)}
    expected = Check("backends", "CUDA kernels", "problem", "NVRTC 13.5 is too new.", "jetpack6")
    assert lines["CUDA kernels"] == expected

    seeing = {"gpus": [ORIN], "reason": None}
    lines = {check.name: check for check in doctor._backends(answers, seeing)}
    assert "built for CUDA 13.0 and sees no GPU" in lines["PyTorch CUDA"].detail
    assert lines["TensorRT"].state == "problem"
    assert "Orin has 8.7" in lines["TensorRT-RTX run"].detail
    rtx = {"gpus": [ORIN | {"name": "RTX 4090", "compute_capability": "8.9"}], "reason": None}
    lines = {check.name: check for check in doctor._backends(answers, rtx)}
    assert lines["TensorRT-RTX run"] == Check("backends", "TensorRT-RTX run", "ok", "RTX 4090")


def test_a_jetson_with_a_camera(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    root = tmp_path / "root"
    for folder in ("dev", "etc", "proc/device-tree"):
        (root / folder).mkdir(parents=True)
    (root / "dev/video0").touch()
    (root / "proc/device-tree/model").write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
    (root / "etc/nv_tegra_release").write_text("# R36 (release), REVISION: 4.3, GCID: 1\n")
    report = examine(tiny_bundle.path, root)
    assert "JetPack 6 (L4T 36.4.3)" in _line(report, "Jetson").detail
    assert "nvpmodel" in _line(report, "power mode").next_step
    assert _line(report, "cameras").detail == "/dev/video0"


def test_a_full_disk_is_a_problem(
    tiny_bundle: Bundle,
    tmp_path: Path,
    answers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "LEAST_FREE_GIB", 1e9)
    assert _line(examine(tiny_bundle.path, tmp_path), "disk").state == "problem"


def test_a_folder_that_is_gone_is_a_problem(
    tiny_bundle: Bundle,
    tmp_path: Path,
    answers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    report = examine(tiny_bundle.path, tmp_path)
    assert report.exit_code == 0
    assert "does not exist any more" in _line(report, "disk").detail


@pytest.mark.parametrize(("screen", "next_step"), [("", ""), (":0", windows.INSTALL)])
def test_who_has_a_screen_learns_how_to_get_windows(
    tiny_bundle: Bundle,
    tmp_path: Path,
    answers: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    screen: str,
    next_step: str,
) -> None:
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", screen)
    window = _line(examine(tiny_bundle.path, tmp_path), "window")
    assert "built without windows" in window.detail
    assert (window.state, window.next_step) == ("not here", next_step)


def test_the_table_shows_every_line_and_fits_a_terminal(
    tiny_bundle: Bundle, tmp_path: Path, answers: dict[str, Any]
) -> None:
    report = examine(tiny_bundle.path, tmp_path)
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(doctor_table(report))
    text = console.export_text()
    assert "frames can be inspected" in text
    assert all(check.name in text for check in report.checks)
    assert "dad-edge[train]" in text


@pytest.mark.parametrize("whole", [True, False])
def test_the_command_exits_with_the_documented_code(
    tiny_bundle: Bundle,
    answers: dict[str, Any],
    whole: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tiny_bundle.path if whole else tiny_bundle.path.parent / "nowhere"
    monkeypatch.setattr("sys.argv", ["dad-edge", "doctor", "--bundle", str(folder), "--json"])
    code = 0
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert code == report["exit_code"] == (0 if whole else 4)
    assert report["can_inspect"] is whole
    assert ("frames can be inspected" if whole else "is not a bundle") in shown.err


def test_this_machine_answers_for_itself(tiny_bundle: Bundle) -> None:
    report = examine(tiny_bundle.path)
    assert report.exit_code == 0
    assert _line(report, "video files").state == "ok"
    assert {check.group for check in report.checks} == {
        "main job",
        "backends",
        "device",
        "in and out",
    }
