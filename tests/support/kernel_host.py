"""Runs the kernel files, unchanged, on the CPU: g++ compiles them through `cuda_shim.h`."""

from __future__ import annotations

import ctypes
import functools
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import dad_edge.kernels

Array = NDArray[Any]

# √ᾱ and √(1-ᾱ) of two time steps.
SIGNAL = np.array([0.948, 0.812], dtype=np.float32)
NOISE = np.sqrt(1 - SIGNAL**2)


@functools.cache
def _library() -> ctypes.CDLL | None:
    compiler = shutil.which("g++")
    if compiler is None:
        return None
    here = Path(__file__).parent
    folders = ["-I", str(here), "-I", str(Path(dad_edge.kernels.__file__).parent)]
    flags = [
        "-std=c++20",
        "-O2",
        "-Wall",
        "-Wextra",
        "-Wno-unknown-pragmas",
        "-pthread",
        "-shared",
        "-fPIC",
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/kernels.so"
        built = subprocess.run(
            [compiler, *flags, *folders, str(here / "cuda_host.cpp"), "-o", path],
            capture_output=True,
            text=True,
        )
        assert built.returncode == 0, built.stderr
        assert not built.stderr, built.stderr
        return ctypes.CDLL(path)


def kernel_library() -> ctypes.CDLL:
    """The kernels as host functions; skips the test where there is no compiler."""
    library = _library()
    if library is None:
        pytest.skip("g++ is not installed; it compiles the kernels for the CPU")
    return library


def launch(kernel: str, grid: tuple[int, int], threads: int, *arguments: Any) -> None:
    """Launch as the CUDA driver would: arrays go as addresses, None as null."""
    library = kernel_library()
    values = []
    for argument in arguments:
        if isinstance(argument, np.ndarray):
            values.append(ctypes.c_void_p(argument.ctypes.data))
        else:
            values.append(ctypes.c_void_p(None) if argument is None else argument)
    pointers = [ctypes.cast(ctypes.pointer(value), ctypes.c_void_p) for value in values]
    table = (ctypes.c_void_p * len(pointers))(*pointers)
    getattr(library, f"launch_{kernel}")(*grid, threads, table)


def blocks_of_four(elements: int, threads: int) -> int:
    """CUDA blocks, when a thread makes four elements."""
    return (elements + 4 * threads - 1) // (4 * threads)


def guarded(shape: tuple[int, ...], dtype: Any) -> tuple[Array, Callable[[], None]]:
    """An array to write into, and a check that nothing beyond its end was written."""
    size = int(np.prod(shape))
    buffer = np.full(size + 64, 77, dtype=dtype)

    def check() -> None:
        assert (buffer[size:] == 77).all(), "written beyond the end"

    return buffer[:size].reshape(shape), check
