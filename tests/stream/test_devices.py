from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from dad_edge.errors import DataError, UsageError
from dad_edge.stream import devices
from dad_edge.stream.devices import (
    EXAMPLE,
    CameraSettings,
    csi_pipeline,
    open_camera,
    open_device,
    read_settings,
)


class Camera:
    """Takes what it can, and says yes to everything, as drivers do."""

    def __init__(self, **most: float) -> None:
        self.most = {getattr(cv2, f"CAP_PROP_{key}"): value for key, value in most.items()}
        self.has: dict[int, float] = {}
        self.asked: list[int] = []
        self.is_released = False

    def isOpened(self) -> bool:  # noqa: N802 - OpenCV's name
        return True

    def set(self, what: int, value: float) -> bool:
        self.asked.append(what)
        self.has[what] = min(value, self.most.get(what, value))
        return True

    def get(self, what: int) -> float:
        return self.has.get(what, 0.0)

    def read(self) -> tuple[bool, np.ndarray]:
        return True, np.zeros((4, 4, 3), np.uint8)

    def release(self) -> None:
        self.is_released = True


def plug_in(monkeypatch: pytest.MonkeyPatch, camera: Camera) -> list[tuple[int, ...]]:
    opened: list[tuple[int, ...]] = []

    def open_it(*arguments: int) -> Camera:
        opened.append(arguments)
        return camera

    monkeypatch.setattr(devices.cv2, "VideoCapture", open_it)
    return opened


def test_no_such_camera_lists_the_cameras_there_are() -> None:
    with pytest.raises(
        DataError, match=r"there is no camera 87: (the cameras here are|no /dev/video)"
    ):
        open_camera(87)


def test_a_device_by_another_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "usb-camera").symlink_to("/dev/video87")
    with pytest.raises(DataError, match="there is no camera 87"):
        open_device(str(tmp_path / "usb-camera"))


def test_a_camera_without_settings_is_left_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera()
    assert plug_in(monkeypatch, camera) == []
    open_camera(0)
    assert camera.asked == []


def test_settings_are_told_in_the_order_in_which_they_depend(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    camera = Camera()
    opened = plug_in(monkeypatch, camera)
    source = open_camera(3, read_settings(EXAMPLE.partition("?")[2]))
    assert opened == [(3, cv2.CAP_V4L2)]
    assert camera.asked == [
        cv2.CAP_PROP_AUTO_EXPOSURE,
        cv2.CAP_PROP_FOURCC,
        cv2.CAP_PROP_FRAME_WIDTH,
        cv2.CAP_PROP_FRAME_HEIGHT,
        cv2.CAP_PROP_FPS,
        cv2.CAP_PROP_EXPOSURE,
    ]
    assert [camera.has[what] for what in camera.asked] == [
        1.0, cv2.VideoWriter.fourcc(*"MJPG"), 1280.0, 720.0, 30.0, 50.0,
    ]  # fmt: skip
    assert source.fps == 30


@pytest.mark.parametrize(
    ("query", "most", "said"),
    [
        ("width=1280&height=720", {"FRAME_WIDTH": 640}, "does not take width=1280; it has 640"),
        ("fps=60", {"FPS": 30}, "does not take fps=60.0; it has 30"),
        ("exposure_ms=20", {"EXPOSURE": 100}, "does not take exposure_ms=20.0; it has 10"),
        (
            "format=MJPG",
            {"FOURCC": cv2.VideoWriter.fourcc(*"AAAA")},
            "does not take format=MJPG; it has AAAA",
        ),
    ],
)
def test_a_setting_that_the_camera_does_not_take_is_an_error(
    monkeypatch: pytest.MonkeyPatch, query: str, most: dict[str, float], said: str
) -> None:
    camera = Camera(**most)
    plug_in(monkeypatch, camera)
    with pytest.raises(DataError, match=said) as caught:
        open_camera(2, read_settings(query))
    assert "v4l2-ctl --device /dev/video2" in caught.value.next_step
    assert camera.is_released


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("widht=3", "unknown key 'widht'; known are .*height, width"),
        ("width=1280", "width and height together"),
        ("width=-1&height=5", "out of range"),
        ("fps=nan", "out of range"),
        ("fps=fast", "fps: expected .*'fast'"),
        ("fps=", "fps: expected .*''"),
        ("format=H264x", "four characters"),
    ],
)
def test_settings_that_no_camera_has_are_refused(query: str, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        read_settings(query)
    assert EXAMPLE in caught.value.next_step


def test_the_pipeline_of_a_csi_camera() -> None:
    end = "nvvidconv ! video/x-raw,format=BGRx"
    assert csi_pipeline(1, CameraSettings()) == (
        f"nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM) ! {end}"
    )
    settings = CameraSettings(width=1920, height=1080, fps=29.97, exposure_ms=0.5)
    assert csi_pipeline(0, settings) == (
        'nvarguscamerasrc sensor-id=0 exposuretimerange="500000 500000" '
        f"! video/x-raw(memory:NVMM),width=1920,height=1080,framerate=29970/1000 ! {end}"
    )
    with pytest.raises(UsageError, match="takes no format"):
        csi_pipeline(0, CameraSettings(format="MJPG"))
