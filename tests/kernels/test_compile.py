"""The kernels through NVRTC for real devices, with no GPU, and the cache of cubins."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from dad_edge.errors import DeviceError, MissingDependency
from dad_edge.kernels import compile as kernel_compiler
from dad_edge.kernels.compile import ARCHITECTURES, KERNELS, compile_cubin

ENTRY_POINTS = {
    "inject": [b"inject_f32", b"inject_f16"],
    "restore": [b"restore_f32", b"restore_f16", b"restore_guided_f32", b"restore_guided_f16"],
    "pool": [b"pool_map_f32", b"pool_map_f16", b"pool_count", b"pool_score"],
    "group_norm": [
        f"norm_{step}_{element}".encode()
        for step in ("sums", "apply")
        for element in ("f32", "f16", "bf16")
    ],
}


def missing_compiler() -> str:
    try:
        kernel_compiler._nvrtc_version()
    except MissingDependency as error:
        return error.message
    return ""


needs_nvrtc = pytest.mark.skipif(bool(missing_compiler()), reason=missing_compiler())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "dad-edge" / "cubins"


@needs_nvrtc
@pytest.mark.parametrize("arch", ["sm_87", "sm_89", "sm_90", "sm_110", "sm_120"])
def test_compiles_for_the_devices(arch: str) -> None:
    if arch == "sm_110" and kernel_compiler._nvrtc_version() < (13, 0):
        pytest.skip("sm_110 needs NVRTC 13.0 or newer")
    assert arch in ARCHITECTURES
    assert set(KERNELS) < set(ENTRY_POINTS)
    for name in ENTRY_POINTS:
        cubin = compile_cubin(name, arch)
        assert cubin[:4] == b"\x7fELF"
        assert struct.unpack("<H", cubin[18:20]) == (190,), "not a CUDA machine file"
        for entry_point in ENTRY_POINTS[name]:
            assert b".text." + entry_point + b"\0" in cubin


@needs_nvrtc
def test_a_cubin_is_compiled_once(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = compile_cubin("restore", "sm_90")
    assert len(list(cache.iterdir())) == 1

    def refuse(*_: object) -> bytes:
        raise AssertionError("compiled again")

    monkeypatch.setattr(kernel_compiler, "_compile", refuse)
    assert compile_cubin("restore", "sm_90") == first


@needs_nvrtc
def test_a_changed_source_is_another_cubin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernel_compiler._fingerprint("pool", "sm_90", (13, 0))
    sources = tmp_path / "sources"
    sources.mkdir()
    for path in kernel_compiler._FOLDER.glob("*.cu*"):
        (sources / path.name).write_bytes(path.read_bytes())
    monkeypatch.setattr(kernel_compiler, "_FOLDER", sources)
    assert kernel_compiler._fingerprint("pool", "sm_90", (13, 0)) == before
    header = sources / "tensor.cuh"
    header.write_text(header.read_text() + "\n")
    assert kernel_compiler._fingerprint("pool", "sm_90", (13, 0)) != before
    assert kernel_compiler._fingerprint("pool", "sm_90", (13, 1)) != before


@needs_nvrtc
def test_a_cache_that_cannot_be_written_is_no_error(cache: Path) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text("a file in the way")
    assert compile_cubin("restore", "sm_90")[:4] == b"\x7fELF"


@needs_nvrtc
def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(DeviceError, match=r"cannot compile pool\.cu for sm_10:") as caught:
        compile_cubin("pool", "sm_10")
    assert "sm_90" in caught.value.next_step


def test_without_cuda_core_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.core", None)
    with pytest.raises(MissingDependency) as caught:
        compile_cubin("pool", "sm_90")
    assert "dad-edge[cuda]" in caught.value.next_step


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
@pytest.mark.parametrize("arch", ["sm_75", "sm_87", "sm_120"])
@pytest.mark.parametrize("name", KERNELS)
def test_no_register_is_spilled(name: str, arch: str, tmp_path: Path) -> None:
    source = kernel_compiler._FOLDER / f"{name}.cu"
    out = ["-o", str(tmp_path / "cubin"), str(source)]
    command = ["nvcc", f"-arch={arch}", "-std=c++17", "-cubin", "-Xptxas=-v", *out]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    registers = [int(count) for count in re.findall(r"Used (\d+) registers", told)]
    assert len(registers) == len(ENTRY_POINTS[name])
    assert max(registers) <= 64, "1024 threads, as pool_score has, share 65536 registers"
    assert set(re.findall(r"(\d+) bytes spill", told)) == {"0"}


def test_each_jetpack_has_an_extra_with_the_compiler_of_its_driver() -> None:
    """CUDA 12 and 13; TensorRT comes with JetPack and has no wheel for it."""
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    extras = dict(re.findall(r"^(jetpack\d) = \[(.*)\]$", text, re.MULTILINE))
    assert '"cuda-bindings>=12.9,<13"' in extras["jetpack6"]
    assert '"nvidia-cuda-nvrtc-cu12' in extras["jetpack6"]
    assert '"cuda-bindings>=13,<14"' in extras["jetpack7"]
    assert '"nvidia-cuda-nvrtc>=13,<14"' in extras["jetpack7"]
    assert "tensorrt" not in "".join(extras.values())
