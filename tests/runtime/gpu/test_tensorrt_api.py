"""The one logger of TensorRT keeps the errors and hands everything on."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest
from fake_cuda import FakeDriver
from fake_tensorrt import make_tensorrt

from dad_edge.deploy.phases import BuildLog
from dad_edge.runtime.gpu.tensorrt_api import tensorrt_logger


@pytest.fixture(autouse=True)
def trt(driver: FakeDriver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(sys.modules, "tensorrt", make_tensorrt(driver))
    tensorrt_logger.cache_clear()
    yield
    tensorrt_logger.cache_clear()


def test_a_runtime_has_one_logger() -> None:
    assert tensorrt_logger("tensorrt") is tensorrt_logger("tensorrt")


def test_errors_are_kept_and_everything_but_chatter_is_handed_on() -> None:
    logger = tensorrt_logger("tensorrt")
    logger.log(logger.ERROR, "Nobody\n listens. ")
    file = io.StringIO()
    logger.listener = BuildLog(file)
    logger.log(logger.ERROR, "Out of\n memory. ")
    logger.log(logger.WARNING, "slow kernel")
    logger.log(logger.INFO, "started")
    logger.log(logger.VERBOSE, "chatter")
    assert logger.problems == ["Nobody listens", "Out of memory"]
    assert file.getvalue() == "error: Out of\n memory.\nwarning: slow kernel\nstarted\n"
