from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dad_edge.machine import gpu


class FakeDriver:
    """The CUDA driver's C interface with one Orin behind it."""

    def __init__(self, status: int = 0) -> None:
        self.status = status

    def cuInit(self, flags: int) -> int:  # noqa: N802 - the driver's name
        return self.status

    def cuDriverGetVersion(self, version: Any) -> int:  # noqa: N802
        version._obj.value = 12060
        return 0

    def cuDeviceGetCount(self, count: Any) -> int:  # noqa: N802
        count._obj.value = 1
        return 0

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        device._obj.value = index
        return 0

    def cuDeviceGetName(self, name: Any, length: int, device: Any) -> int:  # noqa: N802
        name.value = b"Orin"
        return 0

    def cuDeviceTotalMem_v2(self, total: Any, device: Any) -> int:  # noqa: N802
        total._obj.value = 8 * 2**30
        return 0

    def cuDeviceGetAttribute(self, value: Any, attribute: int, device: Any) -> int:  # noqa: N802
        value._obj.value = {75: 8, 76: 7, 16: 4}[attribute]
        return 0


def test_a_gpu_is_described_through_the_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu, "load_driver", FakeDriver)
    found = gpu.describe_nvidia(tmp_path)
    orin = {"name": "Orin", "compute_capability": "8.7", "multiprocessors": 4, "memory_gib": 8.0}
    assert found["gpus"] == [orin]
    assert found["cuda_version"] == "12.6"
    assert found["reason"] is None


@pytest.mark.parametrize(("status", "why"), [(100, "no device"), (803, "different versions")])
def test_a_driver_that_says_no_gives_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int, why: str
) -> None:
    monkeypatch.setattr(gpu, "load_driver", lambda: FakeDriver(status))
    found = gpu.describe_nvidia(tmp_path)
    assert why in found["reason"]
    assert found["gpus"] == []


@pytest.mark.parametrize(
    ("line", "version"),
    [
        ("NVIDIA UNIX x86_64 Kernel Module  550.54.15  Tue Mar  5 22:23:56 UTC 2024", "550.54.15"),
        ("NVIDIA UNIX Open Kernel Module for aarch64  540.4.0  Release Build", "540.4.0"),
    ],
)
def test_a_container_without_the_library_is_told_from_no_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, version: str
) -> None:
    monkeypatch.setattr(gpu, "load_driver", lambda: None)
    assert "no NVIDIA driver" in gpu.describe_nvidia(tmp_path)["reason"]
    (tmp_path / "proc/driver/nvidia").mkdir(parents=True)
    (tmp_path / "proc/driver/nvidia/version").write_text(f"NVRM version: {line}\n")
    found = gpu.describe_nvidia(tmp_path)
    assert found["driver_version"] == version
    assert "kernel driver is loaded" in found["reason"]
