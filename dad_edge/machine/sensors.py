"""Clocks, temperatures, power mode and throttling, read where the device tells them."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path
from typing import Any

from dad_edge.machine.environment import read_text, run_tool

_GPU_FIELDS = {
    "clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
    "state": "pstate",
    "reasons": "clocks_throttle_reasons.active",
}
_THROTTLE_REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that mean less than the asked clock."""


def read_sensors(root: Path = Path("/")) -> dict[str, Any]:
    """What the device tells about itself at this moment.

    Args:
        root: where the file system starts.

    Returns:
        Plain values for JSON; None for what the device does not tell. `cpu_mhz` and `cpu_max_mhz`
        are means over the cores, `temperature_c` the hottest zone's, `cpu_throttled` a count that
        only grows, `gpus` a list with clocks, temperature, power and throttling of each.
    """
    cpus = root / "sys/devices/system/cpu"
    zones = {
        read_text(path / "type") or path.name: celsius
        for path in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        if (celsius := _number(read_text(path / "temp"), 1e-3)) is not None and celsius > 0
    }
    throttled = _numbers(cpus, "cpu[0-9]*/thermal_throttle/core_throttle_count")
    return {
        "cpu_mhz": _mean(_numbers(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq", 1e-3))
        or _mean(_cpuinfo_mhz(root)),
        "cpu_max_mhz": _mean(_numbers(cpus, "cpu[0-9]*/cpufreq/cpuinfo_max_freq", 1e-3)),
        "temperature_c": max(zones.values(), default=None),
        "hottest": max(zones, key=lambda name: zones[name], default=None),
        "cpu_throttled": sum(throttled) if throttled else None,
        "gpus": _nvidia_smi(),
        "jetson_gpu_mhz": _mean(
            [
                mhz
                for path in sorted((root / "sys/class/devfreq").glob("*"))
                if re.search(r"gpu|gpc|ga10b|gv11b|gp10b", path.name)
                and (mhz := _number(read_text(path / "cur_freq"), 1e-6)) is not None
            ]
        ),
    }


def throttling(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """Reasons, in words, why the device was slower than it can be between two readings."""
    found = []
    counts = before["cpu_throttled"], after["cpu_throttled"]
    if None not in counts and counts[1] > counts[0]:
        found.append(f"the CPU throttled {counts[1] - counts[0]:.0f} times for heat")
    for index, gpu in enumerate(after["gpus"] or ()):
        found.extend(f"GPU {index} was held back by {reason}" for reason in gpu["throttled"])
    return found


def _nvidia_smi() -> list[dict[str, Any]] | None:
    """One entry a GPU, or None where nvidia-smi is missing or fails."""
    query = ",".join(_GPU_FIELDS.values())
    text = run_tool("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits")
    return parse_nvidia_smi(text) if text else None


def parse_nvidia_smi(text: str) -> list[dict[str, Any]]:
    """The answer of nvidia-smi as one entry a GPU; None for what it does not know."""
    found = []
    for cells in csv.reader(io.StringIO(text), skipinitialspace=True):
        values: dict[str, Any] = dict(zip(_GPU_FIELDS, (c.strip() for c in cells), strict=False))
        reasons = values.pop("reasons", "")
        bits = int(reasons, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", reasons) else 0
        entry = {name: text if name == "state" else _number(text) for name, text in values.items()}
        entry["throttled"] = [why for bit, why in _THROTTLE_REASONS.items() if bits & bit]
        found.append(entry)
    return found


def _number(text: str, scale: float = 1.0) -> float | None:
    try:
        return round(float(text) * scale, 2)
    except ValueError:
        return None


def _numbers(folder: Path, pattern: str, scale: float = 1.0) -> list[float]:
    found = (_number(read_text(path), scale) for path in sorted(folder.glob(pattern)))
    return [value for value in found if value is not None]


def _cpuinfo_mhz(root: Path) -> list[float]:
    text = read_text(root / "proc/cpuinfo")
    return [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE)]


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
