"""Fixtures that all tests share."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Generator, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["OMP_NUM_THREADS"] = "1"  # threads that wait for each other are slow on a busy machine

import numpy as np
import pytest
from tiny import make_tiny_bundle

from dad_edge.bundle import Bundle
from dad_edge.errors import printable

if TYPE_CHECKING:
    from fake_cuda import FakeDriver

OPTIONAL = (
    "cryptography",
    "cuda",
    "onnxscript",
    "openvino",
    "safetensors",
    "tensorrt_rtx",
    "tomli_w",
    "torch",
)
"""Packages of the extras, which the light core lacks."""

ABSENT = {name for name in OPTIONAL if find_spec(name) is None}


def _absent_behind(error: BaseException | None) -> str:
    """The package of an extra whose absence is the cause of an error, or nothing."""
    while error is not None:
        if isinstance(error, ModuleNotFoundError) and (error.name or "").split(".")[0] in ABSENT:
            return error.name or ""
        error = error.__cause__
    return ""


def _skip_if_absent(
    report: pytest.CollectReport | pytest.TestReport, error: BaseException | None, path: Path
) -> None:
    if report.failed and (name := _absent_behind(error)):
        report.outcome = "skipped"
        report.longrepr = (str(path), 0, f"Skipped: package '{name}' is not installed")


@pytest.fixture(scope="session", autouse=True)
def _own_state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What tests build goes into a list of their own, not into that of whoever runs them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture
def hangup_is_heard() -> Iterator[None]:
    """Not ignored, as it is under nohup, where the programs that a test starts ignore it too."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Skip a file of tests that imports what this environment lacks, and say so."""
    report = yield
    call: pytest.CallInfo[object] | None = getattr(report, "call", None)
    _skip_if_absent(report, call.excinfo.value if call and call.excinfo else None, collector.path)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Skip a test that meets what this environment lacks, and say so.

    What was logged goes to another process where tests run in parallel, and has to be text.
    """
    report = yield
    _skip_if_absent(report, call.excinfo.value if call.excinfo else None, item.path)
    report.sections = [(name, printable(text)) for name, text in report.sections]
    return report


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--at-least", type=int, default=0, help="Fail if fewer tests pass.")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail where so much was skipped that the run proves little."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    wanted: int = session.config.getoption("--at-least")
    if wanted and reporter and not hasattr(session.config, "workerinput"):
        passed = len(reporter.stats.get("passed", ()))
        reporter.write_line(f"\n{passed} tests passed; at least {wanted} must.")
        if passed < wanted:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def tiny_bundle(tmp_path: Path) -> Bundle:
    """A small bundle that tells dark frames (good) from bright ones (defects)."""
    return make_tiny_bundle(tmp_path / "bundle")


@pytest.fixture(scope="session")
def dark_frame() -> np.ndarray:
    """(48,64,3) uint8 frame that the tiny bundle calls good."""
    return np.random.default_rng(0).integers(0, 60, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def bright_frame() -> np.ndarray:
    """(48,64,3) uint8 frame that the tiny bundle calls a defect."""
    return np.random.default_rng(1).integers(200, 256, (48, 64, 3), dtype=np.uint8)


@pytest.fixture(autouse=True)
def forgetful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No engine has proved itself on this machine before."""
    monkeypatch.setattr("dad_edge.runtime.proof.user_cache", lambda: tmp_path / "cache of proofs")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> FakeDriver:
    """A CUDA driver on host memory in the place of the real one."""
    from fake_cuda import FakeDriver

    fake = FakeDriver()
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    return fake
