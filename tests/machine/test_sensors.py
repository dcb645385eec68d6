from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from dad_edge.machine.sensors import (
    GpuSensors,
    Sensors,
    parse_nvidia_smi,
    read_sensors,
    throttling,
)


def machine(root: Path, throttled: int) -> Path:
    """The files of a Jetson-like machine with two cores."""
    files = {
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
        "sys/class/thermal/thermal_zone0/temp": "48500",
        "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
        "sys/class/thermal/thermal_zone1/temp": "61250",
        "sys/class/thermal/thermal_zone2/type": "cv0-thermal",
        "sys/class/thermal/thermal_zone2/temp": "-256000",
        "sys/class/devfreq/17000000.gpu/cur_freq": "918000000",
        "sys/class/devfreq/mc/cur_freq": "1",
    }
    for core in (0, 1):
        folder = f"sys/devices/system/cpu/cpu{core}"
        files[f"{folder}/cpufreq/scaling_cur_freq"] = str(1000000 + core * 500000)
        files[f"{folder}/cpufreq/cpuinfo_max_freq"] = "2000000"
        files[f"{folder}/thermal_throttle/core_throttle_count"] = str(throttled)
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_device_tells_clocks_and_its_hottest_place(tmp_path: Path) -> None:
    found = read_sensors(machine(tmp_path, 0))
    assert found.cpu_mhz == 1250
    assert found.cpu_max_mhz == 2000
    assert (found.temperature_c, found.hottest) == (61.25, "gpu-thermal")
    assert found.jetson_gpu_mhz == 918
    assert found.cpu_throttled == 0


def test_a_device_that_tells_nothing_is_not_guessed(tmp_path: Path) -> None:
    found = read_sensors(tmp_path)
    assert replace(found, gpus=None) == Sensors()
    assert throttling(found, found) == ()


def test_the_clock_of_cpuinfo_counts_where_there_is_no_other(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/cpuinfo").write_text("cpu MHz\t\t: 2000.0\ncpu MHz\t\t: 3000.5\n")
    assert read_sensors(tmp_path).cpu_mhz == 2500.2


def test_throttling_between_two_readings_is_told(tmp_path: Path) -> None:
    before = read_sensors(machine(tmp_path, 3))
    after = read_sensors(machine(tmp_path, 5))
    assert throttling(before, after) == ("the CPU throttled 4 times for heat",)
    assert throttling(before, before) == ()


def test_nvidia_smi_is_read_with_its_reasons() -> None:
    text = (
        "1980, 2619, 44, 312.50, 700.00, P0, 0x0000000000000004\n"
        "345, 405, 31, [N/A], [N/A], P8, 0x0000000000000001\n"
    )
    busy, idle = parse_nvidia_smi(text)
    assert busy.clock_mhz == 1980
    assert busy.power_w == 312.5
    assert busy.state == "P0"
    assert busy.throttled == ("power limit",)
    assert idle.power_w is None
    assert idle.throttled == ()
    reading = Sensors(gpus=(busy, idle))
    assert throttling(reading, reading) == ("GPU 0 was held back by power limit",)


def test_an_answer_that_ends_early_leaves_the_rest_unknown() -> None:
    assert parse_nvidia_smi("1980, 2619") == (GpuSensors(clock_mhz=1980, memory_clock_mhz=2619),)
