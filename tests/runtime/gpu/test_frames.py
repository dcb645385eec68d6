"""Frames that a GPU library hands over, and what is no frame, on a fake device."""

from __future__ import annotations

import ctypes
import functools
import weakref
from typing import Any

import cv2
import numpy as np
import pytest
from fake_cuda import FakeDriver

from dad_edge.bundle import Bundle
from dad_edge.errors import DataError
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.frames import _Tensor
from tests.runtime.gpu.test_inspector import (
    TILED,
    Open,
    assert_same,
    bundle,
    frames_of,
    fused,
    reference,
)

__all__ = ["bundle", "fused"]  # fixtures


class OnDevice:
    """A frame as CuPy, Numba, PyTorch and PyCUDA hand it over."""

    def __init__(self, device: Device, frame: np.ndarray, padding: int = 0) -> None:
        rows = frame.reshape(len(frame), -1)
        padded = np.full((len(frame), rows.shape[1] + padding), 7, np.uint8)
        padded[:, : rows.shape[1]] = rows
        self.buffer = device.upload(padded)
        inner = (3, 1) if frame.ndim == 3 else (1,)
        self.strides = (padded.shape[1], *inner)
        self.shape = frame.shape
        self.__cuda_array_interface__ = {
            "shape": frame.shape,
            "typestr": "|u1",
            "data": (self.buffer.address, False),
            "strides": self.strides if padding else None,
            "version": 3,
        }


class ByDlpack:
    """The same by DLPack."""

    def __init__(self, frame: OnDevice, device_type: int = 2) -> None:
        shape = (ctypes.c_int64 * 3)(*frame.shape)
        strides = (ctypes.c_int64 * 3)(*frame.strides)
        self.tensor = _Tensor(frame.buffer.address - 4, device_type, 0, 3, (1, 8, 1))
        self.tensor.shape, self.tensor.strides, self.tensor.byte_offset = shape, strides, 4
        self.streams: list[int] = []
        self._kept = (frame, shape, strides)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, 0

    def __dlpack__(self, stream: int) -> Any:
        self.streams.append(stream)
        new = ctypes.pythonapi.PyCapsule_New
        new.restype, new.argtypes = (
            ctypes.py_object,
            (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p),
        )
        return new(ctypes.addressof(self.tensor), b"dltensor", None)


@pytest.mark.parametrize("integrated", [False, True])
def test_frames_on_the_device_are_not_copied_to_it(
    fused: Open, bundle: Bundle, driver: FakeDriver, integrated: bool
) -> None:
    driver.attributes["INTEGRATED"] = int(integrated)
    inspector = fused()
    device = inspector._device
    [frame] = frames_of((48, 64))
    grey = np.ascontiguousarray(frame[..., 1])
    expected = reference(bundle).inspect(frame)
    for padding in (0, 5):
        on_device = OnDevice(device, frame, padding)
        by_dlpack = ByDlpack(on_device)
        assert_same([inspector.inspect(on_device)], [expected])
        assert_same([inspector.inspect(by_dlpack)], [expected])
        assert by_dlpack.streams == [inspector._streams[0].number]
        found = inspector.inspect(OnDevice(device, grey, padding), "grey")
        assert_same([found], [reference(bundle).inspect(cv2.merge([grey] * 3))])
    assert_same(inspector.inspect_batch([frame, OnDevice(device, frame)]), [expected, expected])
    inspector.inspect(OnDevice(device, frame))
    counted = driver.allocations()
    on_device = OnDevice(device, frame)
    inspector.inspect(on_device)
    assert driver.allocations() == counted + 1, "the frame itself"


def test_the_stream_that_writes_a_frame_is_waited_for(
    fused: Open, bundle: Bundle, driver: FakeDriver
) -> None:
    inspector = fused()
    device = inspector._device
    [frame] = frames_of((48, 64))
    target = OnDevice(device, np.zeros_like(frame))
    source, stream = device.allocate_host(frame.size), device.stream()
    source.bytes[:] = frame.ravel()
    device.copy_in(target.buffer.address, source.address, frame.size, stream)
    target.__cuda_array_interface__["stream"] = stream.number
    expected = reference(bundle).inspect(frame)
    assert_same([inspector.inspect(target)], [expected])

    # An interface that does not say, or says None as PyCUDA does, gets the default one waited for.
    for stream_entry in ({}, {"stream": None}):
        target = OnDevice(device, np.zeros_like(frame))
        target.__cuda_array_interface__.update(stream_entry)
        write = functools.partial(ctypes.memmove, target.buffer.address, source.address, frame.size)
        driver.default_stream.pending.append(write)
        assert_same([inspector.inspect(target)], [expected])


@pytest.mark.parametrize("padding", [0, 6])
def test_nv12_comes_in_one_piece_or_in_two_planes(
    fused: Open, bundle: Bundle, driver: FakeDriver, padding: int
) -> None:
    inspector = fused()
    device = inspector._device
    nv12 = np.random.default_rng(1).integers(0, 256, (72, 64), dtype=np.uint8)
    luma, chroma = np.ascontiguousarray(nv12[:48]), np.ascontiguousarray(nv12[48:])
    expected = reference(bundle).inspect(cv2.cvtColor(nv12, cv2.COLOR_YUV2BGR_NV12))
    assert_same([inspector.inspect((luma, chroma), "nv12")], [expected])
    on_device = OnDevice(device, luma, padding), OnDevice(device, chroma, 2 * padding)
    alive = [weakref.ref(plane) for plane in on_device]
    lane = inspector.submit([on_device], "nv12")
    del on_device
    assert all(plane() is not None for plane in alive), "held until they are copied"
    assert_same(inspector.collect(lane), [expected])
    with pytest.raises(DataError, match="one plane of an NV12 frame lies on the GPU"):
        inspector.inspect((luma, OnDevice(device, chroma)), "nv12")
    for planes in ((luma, luma), (luma,), (), (luma[:47], chroma), (luma, chroma[:, :32])):
        with pytest.raises(DataError, match="NV12 in planes must be luma"):
            inspector.inspect(planes, "nv12")


def test_a_frame_on_the_device_is_held_until_it_is_copied(fused: Open) -> None:
    inspector = fused()
    frame = OnDevice(inspector._device, frames_of((48, 64))[0])
    alive = weakref.ref(frame)
    lane = inspector.submit([frame])
    del frame
    assert alive() is not None
    inspector.collect(lane)
    assert alive() is None


def test_frames_on_the_device_that_cannot_be_taken(fused: Open, driver: FakeDriver) -> None:
    [frame] = frames_of((50, 90))
    tiled = fused(TILED)
    with pytest.raises(DataError, match="not padded to the model's aspect"):
        tiled.inspect(OnDevice(tiled._device, frame))
    inspector = fused()
    gaps = OnDevice(inspector._device, frame)
    gaps.__cuda_array_interface__["strides"] = (360, 4, 1)
    with pytest.raises(DataError, match="do not lie together"):
        inspector.inspect(gaps)
    pycuda = OnDevice(inspector._device, frame)
    driver.contexts[pycuda.buffer.address] = 77
    with pytest.raises(DataError, match="another CUDA context") as caught:
        inspector.inspect(pycuda)
    assert "pycuda.autoprimaryctx" in caught.value.next_step
    driver.contexts[pycuda.buffer.address] = 0
    inspector.inspect(pycuda)  # memory of a pool belongs to no context
    other = ByDlpack(pycuda)
    other.__dlpack_device__ = lambda: (2, 1)  # type: ignore[method-assign]
    with pytest.raises(DataError, match="lies on GPU 1, the inspector runs on GPU 0"):
        inspector.inspect(other)
    assert other.streams == [], "its library was not asked to wait on a stream of another GPU"
    elsewhere = OnDevice(inspector._device, frame)
    inspector._device.ordinal_of = lambda address: 1  # type: ignore[method-assign]
    with pytest.raises(DataError, match="lies on GPU 1, the inspector runs on GPU 0"):
        inspector.inspect(elsewhere)


@pytest.mark.parametrize(
    ("frame", "pixel_format"),
    [
        (np.zeros((4, 4), np.uint8), "bgr"),
        (np.zeros((0, 4, 3), np.uint8), "bgr"),
        (np.zeros((4, 4, 3), np.float32), "rgb"),
        (np.zeros((4, 4, 3), np.uint8), "grey"),
        (np.zeros((5, 4), np.uint8), "nv12"),
        (np.zeros((6, 5), np.uint8), "nv12"),
    ],
)
def test_frames_of_another_layout_are_refused(
    fused: Open, frame: np.ndarray, pixel_format: Any
) -> None:
    with pytest.raises(DataError, match=f"uint8 {pixel_format.upper()}, got shape"):
        fused().inspect(frame, pixel_format)


def test_things_that_are_no_frames(fused: Open) -> None:
    inspector = fused()
    with pytest.raises(DataError, match="a list is not a frame"):
        inspector.inspect([1, 2])
    with pytest.raises(DataError, match="no frame"):
        inspector.inspect_batch([])
