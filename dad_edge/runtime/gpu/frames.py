"""Frames as the CUDA runtime takes them: NumPy arrays, or memory of a GPU library.

CuPy, Numba and PyCUDA hand their memory over by `__cuda_array_interface__`, PyTorch and others by
DLPack, which says what to wait for where an old interface does not. NV12 may come in one piece or
as its two planes. An interface whose stream is
None should mean that there is nothing to wait for, but PyCUDA gives None whatever is under way, so
the default stream is waited for. Rows may lie any number of
bytes apart; the pixels of a row have no gaps.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DataError
from dad_edge.runtime.gpu.ops import NV12, PixelFormat

_CUDA, _CUDA_MANAGED = 2, 13  # kDLCUDA, kDLCUDAManaged
_UNSIGNED = 1  # kDLUInt
_DEFAULT_STREAM = 1  # cudaStreamLegacy


@dataclass(frozen=True, slots=True)
class Geometry:
    """What has to be equal for two frames to go through the same CUDA graph."""

    height: int
    width: int
    pixel_format: PixelFormat

    @property
    def rows(self) -> int:
        """Rows of bytes: NV12 has its chroma rows below the luma rows."""
        return self.height * 3 // 2 if self.pixel_format in NV12 else self.height

    @property
    def row_bytes(self) -> int:
        """Bytes of a row without padding."""
        return self.width * (3 if self.pixel_format in ("bgr", "rgb") else 1)


@dataclass(frozen=True, slots=True)
class Plane:
    """Rows of bytes in device memory."""

    address: int
    rows: int
    pitch: int
    """Bytes from row to row."""
    foreign_stream: int | None
    """Stream that writes them, 1 the default one; None where it was waited for already."""
    owner: object
    """Keeps the memory alive."""


@dataclass(frozen=True, slots=True)
class DeviceFrame:
    """A frame in device memory."""

    geometry: Geometry
    planes: tuple[Plane, ...]
    """All its rows; two planes where luma and chroma of NV12 lie apart."""


@dataclass(frozen=True, slots=True)
class HostFrame:
    """A frame in host memory, of any strides."""

    geometry: Geometry
    pixels: NDArray[np.uint8]


def describe(
    frame: Any, pixel_format: PixelFormat, stream: int, ordinal: int
) -> HostFrame | DeviceFrame:
    """What a frame is and where it lies.

    Args:
        frame: (H,W,3) for `bgr` and `rgb`, (H,W) for `grey`, (3H/2,W) for NV12, or a tuple of its
            luma (H,W) and its chroma (H/2,W), which may have pitches of their own; uint8.
        pixel_format: of the frame.
        stream: handle of the CUDA stream that will read it.
        ordinal: number of the GPU of that stream.

    Raises:
        DataError: it is not such an array, the pixels of its rows are not together, or it is known
            to lie on another GPU.
    """
    if pixel_format in NV12 and isinstance(frame, tuple):
        return _joined([describe(plane, "grey", stream, ordinal) for plane in frame], pixel_format)
    if isinstance(frame, np.ndarray):
        return HostFrame(_geometry(frame.shape, str(frame.dtype), pixel_format), frame)
    interface = getattr(frame, "__cuda_array_interface__", None)
    by_dlpack = hasattr(frame, "__dlpack__")
    if interface is not None and ("stream" in interface or not by_dlpack):
        kind = np.dtype(interface["typestr"])
        geometry = _geometry(interface["shape"], str(kind), pixel_format)
        pitch = _pitch(interface.get("strides"), geometry)
        address = int(interface["data"][0])
        foreign = interface.get("stream") or _DEFAULT_STREAM
        return DeviceFrame(geometry, (Plane(address, geometry.rows, pitch, foreign, frame),))
    if by_dlpack:
        kind_of_device, number = frame.__dlpack_device__()
        if kind_of_device not in (_CUDA, _CUDA_MANAGED):
            return describe(np.from_dlpack(frame), pixel_format, stream, ordinal)
        if kind_of_device == _CUDA and number != ordinal:  # before its library sees our stream
            raise lies_elsewhere(number, ordinal)
        return _from_dlpack(frame.__dlpack__(stream=stream), pixel_format)
    raise DataError(
        f"a {type(frame).__name__} is not a frame.",
        "give a NumPy array, or device memory with __cuda_array_interface__ or __dlpack__",
    )


def _joined(
    planes: list[HostFrame | DeviceFrame], pixel_format: PixelFormat
) -> HostFrame | DeviceFrame:
    """One NV12 frame of its luma and its chroma."""
    sizes = [(plane.geometry.height, plane.geometry.width) for plane in planes]
    height, width = sizes[0] if sizes else (0, 0)
    if sizes != [(height, width), (height // 2, width)] or height % 2 or width % 2:
        raise DataError(
            f"NV12 in planes must be luma (H,W) and chroma (H/2,W), H and W even, got {sizes}.",
            "give both planes as 2-D arrays of bytes, the chroma with two bytes a pair of pixels",
        )
    geometry = Geometry(height, width, pixel_format)
    outside = [plane.pixels for plane in planes if isinstance(plane, HostFrame)]
    inside = [plane for plane in planes if isinstance(plane, DeviceFrame)]
    if outside and inside:
        raise DataError(
            "one plane of an NV12 frame lies on the GPU and the other does not.",
            "give both planes from the same memory",
        )
    if outside:
        return HostFrame(geometry, np.concatenate(outside))
    return DeviceFrame(geometry, tuple(part for plane in inside for part in plane.planes))


def lies_elsewhere(found: int, ordinal: int) -> DataError:
    """The error of a frame on another GPU than that of the inspector, by their numbers."""
    return DataError(
        f"a frame lies on GPU {found}, the inspector runs on GPU {ordinal}.",
        f"move it to GPU {ordinal}",
    )


def _geometry(shape: Any, kind: str, pixel_format: PixelFormat) -> Geometry:
    shape = tuple(int(side) for side in shape)
    layouts = {"grey": "(H,W)"} | dict.fromkeys(NV12, "(3H/2,W), H and W even,")
    height, width = (*shape[:2], 0, 0)[:2]
    if pixel_format in NV12:
        fits = len(shape) == 2 and height % 3 == 0 and width % 2 == 0
        height = height * 2 // 3
    elif pixel_format == "grey":
        fits = len(shape) == 2
    else:
        fits = len(shape) == 3 and shape[2] == 3
    if not fits or kind != "uint8" or not height * width:
        layout = layouts.get(pixel_format, "(H,W,3)")
        raise DataError(
            f"a frame must be {layout} uint8 {pixel_format.upper()}, got shape {shape} of {kind}.",
            "convert it with dad_edge.image.preprocess.as_frame, or name its pixel format",
        )
    return Geometry(height, width, pixel_format)


def _pitch(strides: Any, geometry: Geometry) -> int:
    """Bytes from row to row, from strides in bytes; None stands for an array without gaps."""
    if strides is None:
        return geometry.row_bytes
    steps = tuple(int(stride) for stride in strides)
    together = (3, 1) if geometry.pixel_format in ("bgr", "rgb") else (1,)
    if steps[1:] != together or steps[0] < geometry.row_bytes:
        raise DataError(
            f"the pixels of a row of this frame do not lie together (strides {steps}).",
            "make the frame contiguous on the device first",
        )
    return steps[0]


class _Type(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16))


class _Tensor(ctypes.Structure):
    """DLTensor of dlpack.h."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("type", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_capsule_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_capsule_pointer.restype = ctypes.c_void_p
_capsule_pointer.argtypes = (ctypes.py_object, ctypes.c_char_p)


def _from_dlpack(capsule: object, pixel_format: PixelFormat) -> DeviceFrame:
    """Read a capsule without consuming it, so that it frees its memory when it is dropped."""
    address = _capsule_pointer(capsule, b"dltensor")
    assert address is not None
    tensor = _Tensor.from_address(address)
    kind = f"{'uint' if tensor.type.code == _UNSIGNED else 'type'}{tensor.type.bits}"
    geometry = _geometry(tensor.shape[: tensor.ndim], kind, pixel_format)
    strides = tensor.strides[: tensor.ndim] if tensor.strides else None
    pitch = _pitch(strides, geometry)
    address = tensor.data + tensor.byte_offset
    return DeviceFrame(geometry, (Plane(address, geometry.rows, pitch, None, capsule),))
