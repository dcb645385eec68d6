"""The CUDA driver: memory, streams, events, kernels and graphs; no other module calls it.

Every status is checked. A sticky one, such as an illegal address, makes all later calls of the
process fail too: the device is then lost. `Device.close` frees whatever is left, and resets the
primary context of a lost device, after which a new `Device` may work in the same process.
"""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.errors import DeviceError, require
from dad_edge.runtime.gpu.status import DOCTOR, NEXT_STEPS, REOPEN, RESTART, STICKY

_LEGACY_STREAM = 1
"""The default stream of a context that waits for the others, CU_STREAM_LEGACY."""


class Owned:
    """Something of the driver that belongs to a device until it is closed."""

    def __init__(self, device: Device, handle: Any, release: str) -> None:
        self.handle = handle
        self._device: Device | None = device
        self._release = release
        device.owned[id(self)] = self

    def close(self) -> None:
        """Give it back; closing again does nothing."""
        device, self._device = self._device, None
        if device is not None:
            device.owned.pop(id(self), None)
            device.release(self._release, self.handle)


class Buffer(Owned):
    """Device memory."""

    def __init__(self, device: Device, handle: Any, size: int) -> None:
        super().__init__(device, handle, "cuMemFree")
        self.address = int(handle)
        self.size = size


class HostBuffer(Owned):
    """Page-locked host memory."""

    def __init__(self, device: Device, handle: Any, size: int) -> None:
        super().__init__(device, handle, "cuMemFreeHost")
        self.size = size
        self.bytes: NDArray[np.uint8] = np.ctypeslib.as_array(
            (ctypes.c_uint8 * size).from_address(int(handle))
        )
        """(size,) uint8, the memory itself; not to be used once it is closed."""
        self.address = int(handle)


class Stream(Owned):
    """A queue of work on the device."""

    @property
    def number(self) -> int:
        """The handle as other libraries take it."""
        return int(self.handle)


class Event(Owned):
    """A mark in a stream."""


class Graph(Owned):
    """Work that was captured once and can be launched again and again."""


class Module(Owned):
    """Loaded machine code."""


class Device:
    """The primary context of one GPU, which PyTorch and TensorRT use too."""

    def __init__(self, ordinal: int = 0) -> None:
        """
        Raises:
            MissingDependency: `cuda.bindings` is not installed.
            DeviceError: there is no driver or no such GPU.
        """
        self.driver: Any = require("cuda.bindings.driver", "cuda", "run on an NVIDIA GPU")
        self.owned: dict[int, Owned] = {}
        self.lost: str | None = None
        """Name of the status that lost the device."""
        self.shared_with_torch = False
        """PyTorch keeps memory of this context, so that it cannot be reset under it."""
        self._context: Any = None
        self._call("cuInit", 0)
        self._device = self._call("cuDeviceGet", ordinal)
        self._context = self._call("cuDevicePrimaryCtxRetain", self._device)
        self.use()
        self.name = _text(self._call("cuDeviceGetName", 128, self._device))
        self.integrated = bool(self._attribute("INTEGRATED"))
        """Whether host and device share one memory, as on Jetson."""
        self.multiprocessors = self._attribute("MULTIPROCESSOR_COUNT")
        major = self._attribute("COMPUTE_CAPABILITY_MAJOR")
        minor = self._attribute("COMPUTE_CAPABILITY_MINOR")
        self.arch = f"sm_{major}{minor}"
        """Architecture as NVRTC names it, such as `sm_87`."""

    def _attribute(self, name: str) -> int:
        attribute = getattr(self.driver.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return int(self._call("cuDeviceGetAttribute", attribute, self._device))

    def use(self) -> None:
        """Make this device current in the calling thread."""
        self._call("cuCtxSetCurrent", self._context)

    def allocate(self, size: int) -> Buffer:
        """Device memory of `size` bytes, aligned to 256."""
        return Buffer(self, self._call("cuMemAlloc", size), size)

    def allocate_host(self, size: int) -> HostBuffer:
        """Page-locked host memory of `size` bytes, which the device can read too."""
        flags = self.driver.CU_MEMHOSTALLOC_DEVICEMAP
        return HostBuffer(self, self._call("cuMemHostAlloc", size, flags), size)

    def mapped(self, buffer: HostBuffer) -> int:
        """Address at which the device reads page-locked memory."""
        return int(self._call("cuMemHostGetDevicePointer", buffer.handle, 0))

    def stream(self) -> Stream:
        """A stream that does not wait for the default one."""
        flags = int(self.driver.CUstream_flags.CU_STREAM_NON_BLOCKING)
        return Stream(self, self._call("cuStreamCreate", flags), "cuStreamDestroy")

    def event(self, *, timing: bool = False) -> Event:
        """An event for waiting, during which the processor sleeps, or for timing."""
        kinds = self.driver.CUevent_flags
        waiting = int(kinds.CU_EVENT_BLOCKING_SYNC) | int(kinds.CU_EVENT_DISABLE_TIMING)
        flags = int(kinds.CU_EVENT_DEFAULT) if timing else waiting
        return Event(self, self._call("cuEventCreate", flags), "cuEventDestroy")

    def record(self, event: Event, stream: Stream) -> None:
        """Mark this place in a stream."""
        self._call("cuEventRecord", event.handle, stream.handle)

    def record_in_graph(self, event: Event, stream: Stream) -> None:
        """Let the graph that is being captured from a stream mark this place whenever it runs."""
        external = int(self.driver.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
        self._call("cuEventRecordWithFlags", event.handle, stream.handle, external)

    def wait(self, stream: Stream, event: Event) -> None:
        """Let a stream wait for an event."""
        self._call("cuStreamWaitEvent", stream.handle, event.handle, 0)

    def wait_for_foreign(self, stream: Stream, foreign: int, event: Event) -> None:
        """Let a stream wait for all work in another library's stream.

        Args:
            stream: the one that waits.
            foreign: handle; 1 is the legacy default stream, 2 the one of each thread.
            event: used on the way.
        """
        self._call("cuEventRecord", event.handle, self.driver.CUstream(foreign))
        self.wait(stream, event)

    def synchronize(self, what: Stream | Event) -> None:
        """Wait until a stream is empty or an event has happened."""
        kind = "cuStreamSynchronize" if isinstance(what, Stream) else "cuEventSynchronize"
        self._call(kind, what.handle)

    def elapsed_ms(self, start: Event, end: Event) -> float:
        """Time between two events that have happened and were made for timing."""
        return float(self._call("cuEventElapsedTime", start.handle, end.handle))

    def copy_in(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy bytes from page-locked host memory to the device."""
        self._call("cuMemcpyHtoDAsync", target, source, size, stream.handle)

    def copy_out(self, target: int, source: int, size: int, stream: Stream) -> None:
        """Copy bytes from the device to page-locked host memory."""
        self._call("cuMemcpyDtoHAsync", target, source, size, stream.handle)

    def copy_rows(
        self, target: int, source: int, pitch: int, width: int, rows: int, stream: Stream
    ) -> None:
        """Copy rows of `width` bytes, `pitch` apart, to rows without gaps, by device addresses."""
        if pitch == width:  # copies in two dimensions have a largest pitch
            self._call("cuMemcpyAsync", target, source, width * rows, stream.handle)
            return
        copy = self.driver.CUDA_MEMCPY2D()
        copy.srcMemoryType = copy.dstMemoryType = self.driver.CUmemorytype.CU_MEMORYTYPE_UNIFIED
        copy.srcDevice = self.driver.CUdeviceptr(source)
        copy.dstDevice = self.driver.CUdeviceptr(target)
        copy.srcPitch, copy.dstPitch = pitch, width
        copy.WidthInBytes, copy.Height = width, rows
        self._call("cuMemcpy2DAsync", copy, stream.handle)

    def upload(self, values: NDArray[Any]) -> Buffer:
        """Device memory that holds an array; for constants, as it waits for the copy.

        The copy itself comes back while the last of it is still on its way to the device, and only
        the default stream would wait for it.
        """
        content = np.ascontiguousarray(values)
        buffer = self.allocate(content.nbytes)
        self._call("cuMemcpyHtoD", buffer.handle, content.ctypes.data, content.nbytes)
        self._call("cuStreamSynchronize", self.driver.CUstream(_LEGACY_STREAM))
        return buffer

    def ordinal_of(self, address: int) -> int:
        """Number of the GPU that device memory lies on."""
        attribute = self.driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(self._call("cuPointerGetAttribute", attribute, address))

    def is_foreign(self, address: int) -> bool:
        """Whether device memory belongs to another context, whose addresses mean nothing here.

        Memory that is mapped or taken from a pool belongs to none, and any context can use it.
        """
        attribute = self.driver.CUpointer_attribute.CU_POINTER_ATTRIBUTE_CONTEXT
        context = int(self._call("cuPointerGetAttribute", attribute, address) or 0)
        return context not in (0, int(self._context))

    @property
    def ordinal(self) -> int:
        """Number of this GPU."""
        return int(self._device)

    def load(self, cubin: bytes) -> Module:
        """Load machine code of this device's architecture."""
        return Module(self, self._call("cuModuleLoadData", cubin), "cuModuleUnload")

    def function(self, module: Module, name: str) -> Any:
        """A kernel of loaded code."""
        return self._call("cuModuleGetFunction", module.handle, name.encode())

    def launch(
        self,
        function: Any,
        grid: tuple[int, int],
        threads: int,
        stream: Stream | int,
        arguments: Sequence[Any],
    ) -> None:
        """Enqueue a kernel.

        Args:
            function: from `function`.
            grid: blocks in x and y.
            threads: threads of a block.
            stream: where; a number is the handle of another library's.
            arguments: `ctypes` values of exactly the types of the kernel's parameters.
        """
        pointers = (ctypes.c_void_p * len(arguments))(*map(ctypes.addressof, arguments))
        shape = (*grid, 1, threads, 1, 1)
        parameters = ctypes.addressof(pointers)
        handle = self.driver.CUstream(stream) if isinstance(stream, int) else stream.handle
        self._call("cuLaunchKernel", function, *shape, 0, handle, parameters, 0)

    def capture(self, stream: Stream, enqueue: Callable[[], None]) -> Graph:
        """Capture what a function enqueues on a stream; nothing of it runs yet.

        Memory that the graph uses must outlive it and stay where it is.
        """
        mode = self.driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        collects = gc.isenabled()
        gc.disable()  # a tensor that is collected now would be freed, which ends the capture
        try:
            self._call("cuStreamBeginCapture", stream.handle, mode)
            try:
                enqueue()
            except BaseException:
                status, graph = self.driver.cuStreamEndCapture(stream.handle)
                if status == self.driver.CUresult.CUDA_SUCCESS:
                    self.release("cuGraphDestroy", graph)
                raise
        finally:
            if collects:
                gc.enable()
        graph = self._call("cuStreamEndCapture", stream.handle)
        try:
            executable = self._call("cuGraphInstantiate", graph, 0)
        finally:
            self.release("cuGraphDestroy", graph)
        return Graph(self, executable, "cuGraphExecDestroy")

    def launch_graph(self, graph: Graph, stream: Stream) -> None:
        """Enqueue everything that was captured, as one launch."""
        self._call("cuGraphLaunch", graph.handle, stream.handle)

    @contextmanager
    def all_or_nothing(self) -> Iterator[None]:
        """Free what is allocated in a with statement if it is left by an error."""
        before = set(self.owned)
        try:
            yield
        except BaseException:
            for key in reversed([key for key in self.owned if key not in before]):
                with suppress(DeviceError):
                    self.owned[key].close()
            raise

    def release(self, function: str, handle: Any) -> None:
        """Give something back; on a lost device nothing can be, and nothing needs to be."""
        if self.lost is None:
            self._call(function, handle)

    def finish(self) -> None:
        """Wait for all work, before what it uses is freed; what fails then has no one to tell."""
        if self.lost is None:
            with suppress(DeviceError):
                self.use()
                self._call("cuCtxSynchronize")

    def close(self) -> None:
        """Free everything, give the context back, and reset it if the device was lost."""
        if self._context is None:
            return
        self.finish()
        for owned in reversed(list(self.owned.values())):
            with suppress(DeviceError):  # an error during work may show up here a second time
                owned.close()
        self._context = None
        self.driver.cuDevicePrimaryCtxRelease(self._device)
        if self.lost is not None and not self.shared_with_torch:
            self.driver.cuDevicePrimaryCtxReset(self._device)

    def _call(self, function: str, *arguments: Any) -> Any:
        """Call the driver.

        Raises:
            DeviceError: it said no, with its name, its meaning and what to do.
        """
        try:
            status, *values = getattr(self.driver, function)(*arguments)
        except RuntimeError as error:  # the library, or this function of it, is not there
            raise DeviceError(
                f"the NVIDIA driver cannot do {function}: {_sentence(str(error))}.",
                "install or update the NVIDIA driver; " + DOCTOR,
            ) from error
        if status != self.driver.CUresult.CUDA_SUCCESS:
            raise self._error(function, status)
        return values[0] if values else None

    def _error(self, function: str, status: Any) -> DeviceError:
        _, known = self.driver.cuGetErrorName(status)
        _, meaning = self.driver.cuGetErrorString(status)
        name = _text(known) if known else f"CUDA error {int(status)}"
        message = f"{function}: {name}, {_text(meaning) if meaning else 'an unknown error'}"
        if name in STICKY:
            self.lost = self.lost or name
            step = RESTART if self.shared_with_torch else REOPEN
            return DeviceError(f"the GPU was lost in {message}.", step)
        return DeviceError(f"the GPU refused {message}.", NEXT_STEPS.get(name, DOCTOR))


@contextmanager
def closed_on_error(device: Device) -> Iterator[None]:
    """Close a device if a with statement is left by an error."""
    try:
        yield
    except BaseException:
        device.close()
        raise


def _text(value: bytes) -> str:
    """Text of the driver, which may lie in a longer buffer with anything behind its end."""
    return value.split(b"\0")[0].decode(errors="replace")


def _sentence(text: str) -> str:
    return " ".join(text.split()).rstrip(".")
