from __future__ import annotations

from pathlib import Path

import pytest

from dad_edge.errors import UsageError
from dad_edge.line.config import CameraConfig, LineConfig, line_of, read_line

WHOLE = """
name = "press-3"
folder = "kept"

[engines]
timeout_s = 3
batch = 2

[drift]
false_alarms = 0.01
parts = 100

[cameras.left]
source = "rtsp://user:secret@10.0.0.5/stream"
bundle = "bundles/left"
engine = "cpu-openvino-2026.4.1-int8"
device = "cpu"
region = [100, 50, 640, 480]
ignore = "left.png"
threshold = 0.4
k_of_n = [2, 3]
hysteresis = 0.05
uninspected = "pass"
sinks = ["flagged"]

[cameras.right]
source = 1

[cameras.archive]
source = "recordings/monday.mp4"
"""


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "line.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_whole_file_is_read_and_its_paths_are_beside_it(tmp_path: Path) -> None:
    line = read_line(write(tmp_path, WHOLE))
    assert (line.name, line.folder) == ("press-3", str(tmp_path / "kept"))
    assert (line.engines.timeout_s, line.engines.batch) == (3, 2)
    assert (line.drift.false_alarms, line.drift.parts) == (0.01, 100)
    assert list(line.cameras) == ["left", "right", "archive"]
    assert line.cameras["left"] == CameraConfig(
        source="rtsp://user:secret@10.0.0.5/stream",
        bundle=str(tmp_path / "bundles/left"),
        engine="cpu-openvino-2026.4.1-int8",
        device="cpu",
        region=(100, 50, 640, 480),
        ignore=str(tmp_path / "left.png"),
        threshold=0.4,
        k_of_n=(2, 3),
        hysteresis=0.05,
        uninspected="pass",
        sinks=("flagged",),
    )
    assert line.sinks_of_cameras == {"left": ("flagged",)}
    assert line.cameras["right"] == CameraConfig(source=1)
    assert line.cameras["archive"].source == str(tmp_path / "recordings/monday.mp4")


def test_absolute_paths_and_addresses_stay_as_they_are(tmp_path: Path) -> None:
    text = "[cameras.a]\nsource = '/data/parts'\n[cameras.b]\nsource = 'demo://?parts=3'\n"
    cameras = read_line(write(tmp_path, text)).cameras
    assert [camera.source for camera in cameras.values()] == ["/data/parts", "demo://?parts=3"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "key 'cameras' is missing"),
        ("[cameras]", "1 to 64 cameras, got 0"),
        ("[cameras.a]\nbundle = 'b'", "cameras.a: key 'source' is missing"),
        ("[cameras.a]\nsource = ' '", "cameras.a: source is empty"),
        ("[cameras.a]\nsource = -1", "source -1 is no index"),
        ("[cameras.a]\nsource = 0\nsauce = 1", "cameras.a: unknown key 'sauce'"),
        ("[cameras.a]\nsource = 0\ndevice = 'tpu'", "device: expected one of auto, cpu, gpu"),
        ("[cameras.a]\nsource = 0\nregion = [0, 0, 0, 5]", "region must be x, y, width"),
        ("[cameras.a]\nsource = 0\nregion = [0, 0]", "cameras.a.region: "),
        ("[cameras.a]\nsource = 0\nthreshold = 55", "threshold must lie in [0, 1], got 55"),
        ("[cameras.a]\nsource = 0\nthreshold = nan", "threshold must lie in [0, 1], got nan"),
        ("[cameras.a]\nsource = 0\nk_of_n = [3, 2]", "k_of_n must be two numbers"),
        ("[cameras.a]\nsource = 0\nhysteresis = 1.0", "hysteresis must lie in"),
        ("[cameras.'a/b']\nsource = 0", "'a/b' is no name"),
        ("name = 'x y'\n[cameras.a]\nsource = 0", "'x y' is no name"),
        ("[cameras.a]\nsource = 0\nsinks = ['jsonl']", "sinks[0]"),
        ("[cameras.a]\nsource = 0\nsinks = ['mqtt']", "[sinks.mqtt]"),
        ("folder = ''\n[cameras.a]\nsource = 0", "folder is empty"),
        ("[engines]\ntimeout_s = 0\n[cameras.a]\nsource = 0", "timeout_s must lie in"),
        ("[engines]\nbatch = 0\n[cameras.a]\nsource = 0", "batch must lie in 1..64"),
        ("[engines]\ngather_ms = -1\n[cameras.a]\nsource = 0", "gather_ms must lie in"),
        ("[drift]\nfalse_alarms = 1\n[cameras.a]\nsource = 0", "false_alarms must lie in"),
        ("[drift]\nparts = 3\n[cameras.a]\nsource = 0", "parts must lie in"),
        ("[cameras.a\nsource = 0", "not valid TOML"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_line(write(tmp_path, text))
    assert said in f"{caught.value.message} {caught.value.next_step}"
    assert "line.toml" in caught.value.message
    assert caught.value.next_step


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no such file"):
        read_line(tmp_path / "none.toml")


def test_too_many_cameras_are_refused() -> None:
    cameras = {f"c{number}": CameraConfig(source=number) for number in range(65)}
    with pytest.raises(UsageError, match="got 65"):
        LineConfig(cameras=cameras)


def test_sources_of_the_command_line_get_names_that_differ(tmp_path: Path) -> None:
    line = line_of(
        [0, "rtsp://u:p@10.0.0.5:554/cam-left", "demo://", "demo://?seed=2", "a/parts", "b/parts",
         "x/Überblick 1.mp4", "///"],
        folder=tmp_path,
        bundle=Path("b"),
        engine="e",
    )  # fmt: skip
    assert list(line.cameras) == [
        "camera-0", "cam-left", "demo", "demo-2", "parts", "parts-2", "berblick-1", "camera",
    ]  # fmt: skip
    assert {camera.bundle for camera in line.cameras.values()} == {"b"}
    assert {camera.engine for camera in line.cameras.values()} == {"e"}


def test_a_name_never_holds_a_password() -> None:
    line = line_of(["rtsp://me:pa/ss@host/x"], folder=Path("out"))
    assert not any("pa" in name or "ss" in name for name in line.cameras)
