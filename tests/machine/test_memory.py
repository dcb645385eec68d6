"""Freed memory stays with the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from dad_edge.machine.memory import give_back_freed_memory, keep_freed_memory

FAULTS = """
import ctypes, resource, sys
from dad_edge.machine.memory import keep_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = (ctypes.c_void_p,)
size = 20 << 20
if sys.argv[1] == "keep":
    assert keep_freed_memory()

def call():
    blocks = [libc.malloc(size) for _ in range(3)]
    for block in blocks:
        libc.memset(block, 1, size)
    for block in blocks:
        libc.free(block)

call()
call()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
call()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


HELD = """
import ctypes, resource
from dad_edge.machine.memory import give_back_freed_memory

libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.memset.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
libc.free.argtypes = (ctypes.c_void_p,)

def resident_mib():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() >> 20

blocks = [libc.malloc(8192) for _ in range(12_800)]
for block in blocks:
    libc.memset(block, 1, 8192)
last = blocks.pop()  # behind all others, so that the heap cannot shrink by itself
for block in blocks:
    libc.free(block)
before = resident_mib()
assert give_back_freed_memory()
print(before - resident_mib())
"""


def page_faults(how: str) -> int:
    """Pages that the system clears in the third of three equal calls."""
    done = subprocess.run(
        [sys.executable, "-c", FAULTS, how], capture_output=True, text=True, check=True
    )
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_is_not_cleared_again() -> None:
    assert page_faults("keep") < 10
    assert page_faults("give back") > 20  # else there is nothing to gain


def test_another_c_library_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ctypes.CDLL", lambda name: object())
    assert not keep_freed_memory()
    assert not give_back_freed_memory()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_memory_behind_a_block_in_use_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", HELD], capture_output=True, text=True, check=True)
    assert int(done.stdout) > 80
