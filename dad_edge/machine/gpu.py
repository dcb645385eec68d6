"""Which NVIDIA GPUs and driver are there, asked of the driver itself without any package."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path
from typing import Any

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
_MULTIPROCESSORS = 16  # CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT
_STATUS = {
    3: "the driver is not initialised",
    35: "the kernel driver is older than its library",
    100: "the driver finds no device",
    101: "the device is invalid",
    802: "the system is not ready",
    803: "the kernel driver and its library are of different versions",
    804: "this GPU does not support forward compatibility",
    999: "unknown error",
}


class CudaProblem(Exception):
    """The CUDA driver said no; the message is its reason in words."""


def load_driver() -> Any | None:
    """The CUDA driver library, or None where there is none."""
    try:
        return ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None


def driver_cuda_version(cuda: Any) -> str:
    """Newest CUDA version that the driver runs, such as ``"13.0"``."""
    number = ctypes.c_int()
    _check(cuda.cuDriverGetVersion(ctypes.byref(number)))
    return f"{number.value // 1000}.{number.value % 1000 // 10}"


def list_gpus(cuda: Any) -> list[dict[str, Any]]:
    """Name, compute capability, multiprocessors and memory of every GPU this process may use.

    Raises:
        CudaProblem: the driver does not start or finds no device.
    """
    _check(cuda.cuInit(0))
    count = ctypes.c_int()
    _check(cuda.cuDeviceGetCount(ctypes.byref(count)))
    return [_gpu(cuda, index) for index in range(count.value)]


def _gpu(cuda: Any, index: int) -> dict[str, Any]:
    device, total = ctypes.c_int(), ctypes.c_size_t()
    name = ctypes.create_string_buffer(128)
    _check(cuda.cuDeviceGet(ctypes.byref(device), index))
    _check(cuda.cuDeviceGetName(name, len(name), device))
    _check(cuda.cuDeviceTotalMem_v2(ctypes.byref(total), device))
    numbers = []
    for attribute in (_MAJOR, _MINOR, _MULTIPROCESSORS):
        value = ctypes.c_int()
        _check(cuda.cuDeviceGetAttribute(ctypes.byref(value), attribute, device))
        numbers.append(value.value)
    return {
        "name": name.value.decode(errors="replace"),
        "compute_capability": f"{numbers[0]}.{numbers[1]}",
        "multiprocessors": numbers[2],
        "memory_gib": round(total.value / 2**30, 1),
    }


def _check(status: int) -> None:
    if status:
        raise CudaProblem(f"{_STATUS.get(status, 'error')} (CUDA error {status})")


def describe_nvidia(root: Path = Path("/")) -> dict[str, Any]:
    """Driver and GPUs as data for a report.

    Args:
        root: where the file system starts.

    Returns:
        `driver_version` and `cuda_version` (text or None), `gpus` (a list), and `reason`, the
        sentence that says why there is no usable GPU, or None.
    """
    facts: dict[str, Any] = {
        "driver_version": _kernel_driver_version(root),
        "cuda_version": None,
        "gpus": [],
        "reason": None,
    }
    cuda = load_driver()
    if cuda is None:
        facts["reason"] = (
            "the kernel driver is loaded but libcuda.so.1 is not here"
            if facts["driver_version"]
            else "no NVIDIA driver: libcuda.so.1 is not here"
        )
        return facts
    try:
        facts["cuda_version"] = driver_cuda_version(cuda)
        facts["gpus"] = list_gpus(cuda)
    except CudaProblem as problem:
        facts["reason"] = str(problem)
    return facts


def _kernel_driver_version(root: Path) -> str | None:
    try:
        text = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    match = re.search(r"Kernel Module(?: for \S+)?\s+(\d+\.\d+(?:\.\d+)?)", text)
    return match.group(1) if match else None
