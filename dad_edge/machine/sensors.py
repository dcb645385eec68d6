"""Clocks, temperatures, power mode and throttling, read where the device tells them."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dad_edge.machine.environment import read_text, run_tool

_NUMBERS = {
    "clock_mhz": "clocks.sm",
    "memory_clock_mhz": "clocks.mem",
    "temperature_c": "temperature.gpu",
    "power_w": "power.draw",
    "power_limit_w": "power.limit",
}
"""Field → its name in nvidia-smi, for all fields that are numbers."""
_WORDS = {"state": "pstate", "reasons": "clocks_throttle_reasons.active"}
"""The same for fields that are no numbers; nvidia-smi prints them last."""
_THROTTLE_REASONS = {
    0x04: "power limit",
    0x08: "hardware slowdown",
    0x20: "heat (software)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}
"""Bits of NVML's clock event reasons that mean a lower clock than was asked for."""


@dataclass(frozen=True, kw_only=True, slots=True)
class GpuSensors:
    """What one NVIDIA GPU reports; None for what it does not know."""

    clock_mhz: float | None = None
    """Of its multiprocessors."""
    memory_clock_mhz: float | None = None
    temperature_c: float | None = None
    """In degrees Celsius."""
    power_w: float | None = None
    power_limit_w: float | None = None
    state: str | None = None
    """Performance state; `P0` is the fastest."""
    throttled: tuple[str, ...] = ()
    """Reasons, in words, why it does not reach its clock."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sensors:
    """What a device reports about itself; None for what it does not report."""

    cpu_mhz: float | None = None
    """Mean clock over the cores."""
    cpu_max_mhz: float | None = None
    """Mean over the cores of their highest clock."""
    temperature_c: float | None = None
    """Temperature of the hottest zone in degrees Celsius."""
    hottest: str | None = None
    """Name of that zone."""
    cpu_throttled: float | None = None
    """How often the CPU has throttled for heat: a count that only grows."""
    gpus: tuple[GpuSensors, ...] | None = None
    """None where nvidia-smi is missing or fails."""
    jetson_gpu_mhz: float | None = None
    """Clock of a Jetson's GPU."""


def read_sensors(root: Path = Path("/")) -> Sensors:
    """What the device reports about itself at this moment.

    Args:
        root: where the file system starts.
    """
    cpus = root / "sys/devices/system/cpu"
    zones = {
        read_text(path / "type") or path.name: celsius
        for path in sorted((root / "sys/class/thermal").glob("thermal_zone*"))
        if (celsius := _number(read_text(path / "temp"), 1e-3)) is not None and celsius > 0
    }
    throttled = _numbers(cpus, "cpu[0-9]*/thermal_throttle/core_throttle_count")
    return Sensors(
        cpu_mhz=_mean(_numbers(cpus, "cpu[0-9]*/cpufreq/scaling_cur_freq", 1e-3))
        or _mean(_cpuinfo_mhz(root)),
        cpu_max_mhz=_mean(_numbers(cpus, "cpu[0-9]*/cpufreq/cpuinfo_max_freq", 1e-3)),
        temperature_c=max(zones.values(), default=None),
        hottest=max(zones, key=lambda name: zones[name], default=None),
        cpu_throttled=sum(throttled) if throttled else None,
        gpus=_nvidia_smi(),
        jetson_gpu_mhz=_mean(
            [
                mhz
                for path in sorted((root / "sys/class/devfreq").glob("*"))
                if re.search(r"gpu|gpc|ga10b|gv11b|gp10b", path.name)
                and (mhz := _number(read_text(path / "cur_freq"), 1e-6)) is not None
            ]
        ),
    )


def throttling(before: Sensors, after: Sensors) -> tuple[str, ...]:
    """Reasons, in words, why the device was slower than it can be between two readings."""
    reasons = []
    first, last = before.cpu_throttled, after.cpu_throttled
    if first is not None and last is not None and last > first:
        reasons.append(f"the CPU throttled {last - first:.0f} times for heat")
    for index, gpu in enumerate(after.gpus or ()):
        reasons.extend(f"GPU {index} was held back by {reason}" for reason in gpu.throttled)
    return tuple(reasons)


def _nvidia_smi() -> tuple[GpuSensors, ...] | None:
    """One entry a GPU, or None where nvidia-smi is missing or fails."""
    query = ",".join((_NUMBERS | _WORDS).values())
    text = run_tool("nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader,nounits")
    return parse_nvidia_smi(text) if text else None


def parse_nvidia_smi(text: str) -> tuple[GpuSensors, ...]:
    """The answer of nvidia-smi as one entry a GPU."""
    gpus = []
    for cells in csv.reader(io.StringIO(text), skipinitialspace=True):
        values = dict(zip(_NUMBERS | _WORDS, (cell.strip() for cell in cells), strict=False))
        numbers: dict[str, Any] = {name: _number(values.get(name, "")) for name in _NUMBERS}
        reasons = values.get("reasons", "")
        bits = int(reasons, 16) if re.fullmatch(r"0x[0-9a-fA-F]+", reasons) else 0
        throttled = tuple(why for bit, why in _THROTTLE_REASONS.items() if bits & bit)
        gpus.append(GpuSensors(**numbers, state=values.get("state"), throttled=throttled))
    return tuple(gpus)


def _number(text: str, scale: float = 1.0) -> float | None:
    try:
        return round(float(text) * scale, 2)
    except ValueError:
        return None


def _numbers(folder: Path, pattern: str, scale: float = 1.0) -> list[float]:
    values = (_number(read_text(path), scale) for path in sorted(folder.glob(pattern)))
    return [value for value in values if value is not None]


def _cpuinfo_mhz(root: Path) -> list[float]:
    text = read_text(root / "proc/cpuinfo")
    return [float(mhz) for mhz in re.findall(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE)]


def _mean(values: list[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None
