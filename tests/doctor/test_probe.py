from __future__ import annotations

from pathlib import Path

import pytest

from dad_edge.doctor import probe


def _package(folder: Path, name: str, code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


@pytest.mark.parametrize(
    ("code", "key", "text"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "error", "SIGSEGV"),
        ("raise OSError('libgomp.so.1: cannot open shared object file')", "error", "libgomp"),
        ("import a_package_that_nobody_has", "missing", "a_package_that_nobody_has"),
        ("raise RuntimeError('bad wheel')", "error", "bad wheel"),
    ],
)
def test_a_broken_package_cannot_take_the_asker_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, key: str, text: str
) -> None:
    _package(tmp_path, "torch", code, monkeypatch)
    assert text in probe.ask("torch")[key]


def test_what_a_package_prints_does_not_spoil_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "print('hello')\n__version__ = '9.9'\n"
        "class Logger:\n    INTERNAL_ERROR = 0\n    def __init__(self, level): pass\n"
        "def Builder(logger): raise TypeError('factory function returned nullptr')\n"
    )
    _package(tmp_path, "tensorrt", code, monkeypatch)
    found = probe.ask("tensorrt")
    assert found == {
        "version": "9.9",
        "builder": False,
        "why": "factory function returned nullptr",
    }


@pytest.mark.parametrize(
    ("work", "compiles", "reason"),
    [("pass", True, None), ("raise RuntimeError('no NVRTC')", False, "no NVRTC")],
)
def test_whether_kernels_compile_here_and_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str, compiles: bool, reason: str | None
) -> None:
    _package(tmp_path, "cuda", "", monkeypatch)
    (tmp_path / "cuda/core.py").write_text(
        "__version__ = '1.2'\ndef ProgramOptions(**options): pass\n"
        "class Program:\n    def __init__(self, *source): pass\n"
        f"    def compile(self, kind): {work}\n"
    )
    found = probe.ask("cuda")
    assert (found["compiles"], found["compile_error"]) == (compiles, reason)
    assert found["gpu"] is None


def test_a_package_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _package(tmp_path, "openvino", "import time; time.sleep(60)", monkeypatch)
    monkeypatch.setattr(probe, "_TIMEOUT_S", 1)
    assert "did not answer within 1 s" in probe.ask("openvino")["error"]


def test_opencv_writes_video_here() -> None:
    found = probe.ask("opencv")
    assert "mp4v.mp4" in found["codecs"]
