from __future__ import annotations

import json
import os
import platform
from pathlib import Path

import pytest

from dad_edge.machine.environment import commit, describe_machine


def make_jetson(root: Path) -> None:
    """The files by which a Jetson Orin Nano is known."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson Orin Nano Developer Kit\0",
        "etc/nv_tegra_release": "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic\n",
        "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
        "proc/meminfo": "MemTotal:        7802292 kB\nMemFree: 1 kB\n",
        "proc/cpuinfo": "processor\t: 0\nmodel name\t: ARMv8 Processor rev 1 (v8l)\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def put_tool(folder: Path, name: str, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small shell script in place of a system tool."""
    folder.mkdir(parents=True, exist_ok=True)
    tool = folder / name
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


def test_this_machine_is_described_without_its_name() -> None:
    found = describe_machine()
    assert found["python"] == platform.python_version()
    assert found["cpu"]["usable_cores"] >= 1
    assert found["memory_gib"] > 0
    assert {"numpy", "onnxruntime"} <= found["packages"].keys()
    assert found["device"]
    assert str(Path.home()) + "/" not in json.dumps(found)


def test_a_jetson_is_known_by_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    make_jetson(root)
    put_tool(tmp_path / "bin", "nvpmodel", "echo 'NV Power Mode: 15W'; echo 0", monkeypatch)
    found = describe_machine(root)
    assert found["jetson"] == {
        "model": "NVIDIA Jetson Orin Nano Developer Kit",
        "l4t": "36.4.3",
        "jetpack": "6",
        "power_mode": "15W",
    }
    assert found["device"] == "NVIDIA Jetson Orin Nano Developer Kit"
    assert found["os"] == "Ubuntu 22.04.5 LTS"
    assert found["memory_gib"] == 7.4
    assert found["cpu"]["governor"] == "schedutil"


def test_another_board_is_no_jetson(tmp_path: Path) -> None:
    (tmp_path / "proc/device-tree").mkdir(parents=True)
    (tmp_path / "proc/device-tree/model").write_text("Raspberry Pi 5 Model B\0")
    assert describe_machine(tmp_path)["jetson"] is None


def test_a_failing_power_tool_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_jetson(tmp_path / "root")
    put_tool(tmp_path / "bin", "nvpmodel", "exit 1", monkeypatch)
    assert describe_machine(tmp_path / "root")["jetson"]["power_mode"] is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ('case "$*" in *rev-parse*) echo 0123abc;; esac', "0123abc"),
        (
            'case "$*" in *rev-parse*) echo 0123abc;; *status*) echo " M cli.py";; esac',
            "0123abc+changes",
        ),
        ('case "$*" in *ls-files*) exit 1;; *) echo 0123abc;; esac', None),
    ],
)
def test_the_commit_is_this_packages_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, expected: str | None
) -> None:
    put_tool(tmp_path, "git", script, monkeypatch)
    assert commit() == expected
