"""Every package that a Jetson needs has a wheel for its Python and its system.

Asked of the package registry through uv, which downloads the descriptions of the packages alone.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[1] / "pyproject.toml"
EXTRAS = ("openvino", "debug", "window", "train")
"""Of a Jetson beside its own; TensorRT comes with JetPack, and PyCUDA is built from source."""
SYSTEMS = {"jetpack6": ("3.10", "2_35"), "jetpack7": ("3.12", "2_39")}
"""Extra → Python and glibc of its Ubuntu, 22.04 and 24.04."""

uv = shutil.which("uv", path=str(Path(sys.executable).parent)) or shutil.which("uv")


@pytest.mark.skipif(uv is None, reason="uv is not installed")
@pytest.mark.parametrize("jetpack", SYSTEMS)
def test_every_package_has_a_wheel(jetpack: str) -> None:
    python, glibc = SYSTEMS[jetpack]
    asked = [part for extra in (jetpack, *EXTRAS) for part in ("--extra", extra)]
    system = ["--python-version", python, "--python-platform", f"aarch64-manylinux_{glibc}"]
    command = [str(uv), "pip", "compile", str(PROJECT), *asked, *system]
    command += ["--only-binary", ":all:", "--no-header", "--no-annotate", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    except subprocess.TimeoutExpired:
        pytest.skip("the package registry does not answer in time")
    if done.returncode and "No solution found" not in done.stderr:
        pytest.skip(f"the package registry cannot be asked: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    versions = dict(re.findall(r"^([\w-]+)==([\d.]+)", done.stdout, re.MULTILINE))
    major = {"jetpack6": "12", "jetpack7": "13"}[jetpack]
    assert versions["cuda-bindings"].split(".")[0] == major
    compiler = "nvidia-cuda-nvrtc-cu12" if major == "12" else "nvidia-cuda-nvrtc"
    assert versions[compiler].split(".")[0] == major
