"""What machine this is: the same description in every report, so that figures can be compared."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from dad_edge.machine.gpu import describe_nvidia
from dad_edge.version import __version__

PACKAGES = (
    "numpy",
    "opencv-python",
    "opencv-python-headless",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "openvino",
    "torch",
    "cuda-core",
    "cuda-bindings",
    "tensorrt",
    "tensorrt-rtx-cu12",
    "tensorrt-rtx-cu13",
)
"""Distributions whose versions change a measurement."""

ISA_VARIABLES = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables that hide instructions of the processor from a runtime."""

_JETPACK_OF_L4T = {"32": "4", "35": "5", "36": "6", "38": "7", "39": "7"}
_TOOL_TIMEOUT_S = 10


def describe_machine(root: Path = Path("/")) -> dict[str, Any]:
    """Describe this machine and this installation, without host name, user or paths.

    Args:
        root: where the file system starts.

    Returns:
        Plain values for JSON. `device` is the short name of what computes; `commit` is None
        outside a git checkout; `jetson` is None elsewhere.
    """
    environment: dict[str, Any] = {
        "commit": commit(),
        "python": platform.python_version(),
        "os": _os_name(root),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _cpu(root),
        "memory_gib": _memory_gib(root),
        "packages": package_versions(),
        "nvidia": describe_nvidia(root),
        "jetson": _jetson(root),
    }
    environment["device"] = _device(environment)
    return environment


def package_versions() -> dict[str, str]:
    """Versions of this project and of the installed packages that change a measurement."""
    versions = {"dad-edge": __version__} | {name: _version(name) for name in PACKAGES}
    return {name: version for name, version in versions.items() if version}


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def commit() -> str | None:
    """Commit of the checkout that this package runs from, with ``+changes`` if files differ.

    An installed package that merely lies inside some other checkout has none.
    """
    file = Path(__file__)
    if run_tool("git", "-C", str(file.parent), "ls-files", "--error-unmatch", file.name) is None:
        return None
    head = run_tool("git", "-C", str(file.parent), "rev-parse", "HEAD")
    changes = run_tool("git", "-C", str(file.parent), "status", "--porcelain", "-uno")
    return f"{head}+changes" if head and changes else head


def fingerprint(root: Path = Path("/")) -> dict[str, Any]:
    """What decides how this machine computes: processor, instructions, GPU and versions.

    Args:
        root: where the file system starts.
    """
    text = read_text(root / "proc/cpuinfo")
    flags = re.search(r"^(?:flags|Features)\s*:\s*(.+)$", text, re.MULTILINE)
    return {
        "cpu": _cpu(root)["model"],
        "usable_cores": usable_cores(),
        "instructions": sorted(flags.group(1).split()) if flags else [],
        "hidden_instructions": {name: os.environ.get(name) for name in ISA_VARIABLES},
        "nvidia": describe_nvidia(root),
        "packages": package_versions(),
    }


def follows() -> bool:
    """Whether this is one of several processes that `torchrun` started, and not the first."""
    return os.environ.get("RANK", "0") != "0"


def usable_cores() -> int:
    """CPU cores that this process may run on."""
    return len(os.sched_getaffinity(0))


def shared_memory_mib(root: Path = Path("/")) -> int | None:
    """Memory in MiB that CPU and GPU share, as on a Jetson; None elsewhere.

    Args:
        root: where the file system starts.
    """
    memory = _memory_gib(root)
    return round(memory * 1024) if memory is not None and _jetson(root) else None


def peak_memory_mib() -> float:
    """Largest memory of this process so far, in MiB; that of its parent does not count."""
    # ru_maxrss is passed on from parent to child, through exec too.
    match = re.search(r"^VmHWM:\s+(\d+) kB", read_text(Path("/proc/self/status")), re.MULTILINE)
    kib = int(match.group(1)) if match else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(kib / 1024, 1)


def user_cache() -> Path:
    """Folder for what this program can make again: ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "dad-edge"


def run_tool(*command: str) -> str | None:
    """Standard output of a small tool, or None where it is missing or fails."""
    if shutil.which(command[0]) is None:
        return None
    try:
        process = subprocess.run(
            command, capture_output=True, text=True, timeout=_TOOL_TIMEOUT_S, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return process.stdout.strip()


def read_text(path: Path) -> str:
    """Text of a small system file, empty where there is none."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \n")
    except OSError:
        return ""


def _os_name(root: Path) -> str:
    match = re.search(r'^PRETTY_NAME="?([^"\n]+)', read_text(root / "etc/os-release"), re.MULTILINE)
    return match.group(1) if match else platform.system()


def _cpu(root: Path) -> dict[str, Any]:
    text = read_text(root / "proc/cpuinfo")
    match = re.search(r"^(?:model name|Model|Processor)\s*:\s*(.+)$", text, re.MULTILINE)
    governor = read_text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "model": match.group(1).strip() if match else platform.machine(),
        "cores": os.cpu_count(),
        "usable_cores": usable_cores(),
        "governor": governor or None,
    }


def _memory_gib(root: Path) -> float | None:
    match = re.search(r"^MemTotal:\s+(\d+) kB", read_text(root / "proc/meminfo"), re.MULTILINE)
    return round(int(match.group(1)) / 2**20, 1) if match else None


def _jetson(root: Path) -> dict[str, str | None] | None:
    model = read_text(root / "proc/device-tree/model")
    release = read_text(root / "etc/nv_tegra_release")
    if not release and not re.search(r"jetson|orin|thor|xavier", model, re.IGNORECASE):
        return None
    match = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", release)
    mode = re.search(r"NV Power Mode:\s*(\S+)", run_tool("nvpmodel", "-q") or "")
    return {
        "model": model or "unknown Jetson",
        "l4t": f"{match.group(1)}.{match.group(2)}" if match else None,
        "jetpack": _JETPACK_OF_L4T.get(match.group(1)) if match else None,
        "power_mode": mode.group(1) if mode else None,
    }


def _device(environment: dict[str, Any]) -> str:
    if environment["jetson"]:
        return str(environment["jetson"]["model"])
    if gpus := environment["nvidia"]["gpus"]:
        return str(gpus[0]["name"])
    cpu = environment["cpu"]
    return f"{cpu['model']}, {cpu['usable_cores']} cores"
