"""Compile the CUDA kernels for a GPU architecture; needs NVRTC, but no GPU and no driver.

A cubin depends on nothing but the sources, the architecture and the compiler, so it is kept in the
user's cache folder under a hash of those three and compiled once.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dad_edge.errors import DeviceError, MissingDependency, require, writing
from dad_edge.machine.environment import user_cache
from dad_edge.machine.gpu import describe_nvidia

KERNELS = ("inject", "restore", "pool")
"""The kernel files of a bundle's steps; the kernels inside are listed at the top of each. Networks
in PyTorch need `group_norm` besides."""

ARCHITECTURES = (
    "sm_75",  # Turing: T4, RTX 20
    "sm_80",  # A100
    "sm_86",  # RTX 30, A10
    "sm_87",  # Jetson Orin
    "sm_89",  # RTX 40, L4, L40
    "sm_90",  # H100, H200
    "sm_100",  # B200
    "sm_103",  # B300
    "sm_110",  # Jetson Thor
    "sm_120",  # RTX 50, RTX PRO Blackwell
    "sm_121",  # GB10
)
"""What a bundle is built for by default. Each needs an NVRTC that knows it: sm_110 needs 13.0."""

AMPERE_PLUS = tuple(
    arch for arch in ARCHITECTURES if int(arch[3:]) >= 80 and arch not in ("sm_87", "sm_110")
)
"""Those that a hardware-compatible plan runs on: from Ampere on, Jetsons excepted."""

_FOLDER = Path(__file__).parent
_STANDARD = "c++17"


def cache_folder() -> Path:
    """Where cubins are kept."""
    return user_cache() / "cubins"


def compile_cubin(name: str, arch: str) -> bytes:
    """Compile one kernel file to the machine code of one architecture, or take it from the cache.

    Args:
        name: of a kernel file.
        arch: such as ``"sm_87"``.

    Returns:
        The cubin, as the CUDA driver loads it.

    Raises:
        MissingDependency: `cuda.core` or the NVRTC library is not installed.
        DeviceError: NVRTC does not know the architecture, or rejects the source.
    """
    core = require("cuda.core", "cuda", "compile the CUDA kernels")
    version = _nvrtc_version()
    kept = cache_folder() / f"{name}-{arch}-{_fingerprint(name, arch, version)}.cubin"
    try:
        return kept.read_bytes()
    except OSError:
        cubin = _compile(core, name, arch, version)
    _keep(kept, cubin)
    return cubin


def write_cubins(folder: Path, architectures: Sequence[str]) -> list[Path]:
    """Compile all kernels ahead of time, so that the device that loads them needs no compiler.

    Args:
        folder: gets ``inject-sm_87.cubin`` and so on.
        architectures: such as ``sm_87``.

    Raises:
        MissingDependency, DeviceError: see `compile_cubin`.
        StorageError: the folder cannot be written.
    """
    paths = []
    for arch in architectures:
        for name in KERNELS:
            path = folder / f"{name}-{arch}.cubin"
            cubin = compile_cubin(name, arch)
            with writing(path):
                folder.mkdir(parents=True, exist_ok=True)
                path.write_bytes(cubin)
            paths.append(path)
    return paths


def supported_architectures() -> tuple[str, ...]:
    """Architectures that the installed NVRTC compiles for, such as ``"sm_87"``.

    Raises:
        MissingDependency, DeviceError: see `compile_cubin`.
    """
    nvrtc = require("cuda.bindings.nvrtc", "cuda", "compile the CUDA kernels")
    _nvrtc_version()  # with its errors in words
    status, numbers = nvrtc.nvrtcGetSupportedArchs()
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise DeviceError(f"NVRTC does not tell what it supports: {status}.", "reinstall NVRTC")
    return tuple(f"sm_{number}" for number in numbers)


def find_cubin(name: str, arch: str, folder: Path | None) -> bytes:
    """Machine code of one kernel file: compiled ahead of time if it is there, else compiled now.

    Args:
        name: of a kernel file.
        arch: of the device, such as ``"sm_87"``.
        folder: that `write_cubins` filled, if there is one.

    Raises:
        MissingDependency, DeviceError: see `compile_cubin` and `check_compiler`.
    """
    path = folder / f"{name}-{arch}.cubin" if folder else None
    if path is not None and path.is_file():
        return path.read_bytes()
    check_compiler()
    return compile_cubin(name, arch)


def check_compiler() -> None:
    """Refuse a compiler that is too new for the driver of this machine, if there is one.

    A driver loads machine code of every minor version of its CUDA, and of no later major version.

    Raises:
        MissingDependency: NVRTC is not installed.
        DeviceError: the driver would not load what NVRTC compiles.
    """
    driver = describe_nvidia()["cuda_version"]
    major, minor = _nvrtc_version()
    if driver is not None and major > int(driver.split(".")[0]):
        raise DeviceError(
            f"NVRTC {major}.{minor} compiles kernels that this driver cannot load: it runs CUDA "
            f"{driver}.",
            "on a Jetson with JetPack 6 install 'dad-edge[jetpack6]'; elsewhere update the driver, "
            "or: pip install 'cuda-bindings<13' nvidia-cuda-nvrtc-cu12",
        )


def _fingerprint(name: str, arch: str, version: tuple[int, int]) -> str:
    digest = hashlib.sha256(repr((arch, version, _STANDARD)).encode())
    for source in [_FOLDER / f"{name}.cu", *sorted(_FOLDER.glob("*.cuh"))]:
        content = source.read_bytes()
        digest.update(f"{source.name} {len(content)}\n".encode() + content)
    return digest.hexdigest()[:32]


def _nvrtc_version() -> tuple[int, int]:
    nvrtc = require("cuda.bindings.nvrtc", "cuda", "compile the CUDA kernels")
    try:
        status, major, minor = nvrtc.nvrtcVersion()
    except RuntimeError as error:
        raise MissingDependency(
            "the NVRTC library is not installed; it is needed to compile the CUDA kernels.",
            "install the CUDA toolkit, or the NVRTC of your CUDA version: "
            "pip install nvidia-cuda-nvrtc (CUDA 13) or nvidia-cuda-nvrtc-cu12 (CUDA 12)",
        ) from error
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise DeviceError(f"NVRTC does not tell its version: {status}.", "reinstall NVRTC")
    return int(major), int(minor)


def _compile(core: Any, name: str, arch: str, version: tuple[int, int]) -> bytes:
    options = core.ProgramOptions(
        name=f"{name}.cu", arch=arch, std=_STANDARD, include_path=[str(_FOLDER)]
    )
    source = (_FOLDER / f"{name}.cu").read_text(encoding="utf-8")
    try:
        cubin = core.Program(source, "c++", options).compile("cubin").code
    except Exception as error:  # cuda.core keeps its error classes private
        log = str(error).strip("\0\n ")
        raise DeviceError(
            f"NVRTC {version[0]}.{version[1]} cannot compile {name}.cu for {arch}: {log}",
            "name an architecture that this NVRTC supports, such as sm_90, or install a newer one",
        ) from error
    return bytes(cubin)


def _keep(path: Path, cubin: bytes) -> None:
    """Write through a neighbouring file, so that no reader meets half a cubin."""
    unfinished = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished.write_bytes(cubin)
        unfinished.replace(path)
    except OSError:  # a cache that cannot be written costs time, not the run
        with contextlib.suppress(OSError):
            unfinished.unlink()
