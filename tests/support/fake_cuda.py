"""A CUDA driver on host memory that runs the project's real kernels through `kernel_host`.

Work is deferred as far as CUDA allows: a stream runs only when something waits for it, so that a
missing wait, or a buffer written too early, changes results. A stream being captured records into
its graph, and whatever CUDA refuses then is refused here too. Where no driver is installed, every
kind of call goes to the real bindings as well, which convert its arguments before they miss it.
"""

from __future__ import annotations

import ctypes
import time
from collections import Counter
from typing import Any

import numpy as np
from fake_cuda_parts import (
    FakeEvent,
    FakeStream,
    Memory,
    Work,
    convert_by_the_real_bindings,
    real,
)
from kernel_host import kernel_library

from dad_edge.runtime.gpu.status import STICKY

Result = real.CUresult
OK = Result.CUDA_SUCCESS
_PRIMARY = 1
"""The primary context."""


class FakeDriver:
    """Stands for the module `cuda.bindings.driver`; enums and structures are the real ones."""

    def __init__(self, capability: tuple[int, int] = (8, 9), integrated: bool = False) -> None:
        self.attributes = {
            "COMPUTE_CAPABILITY_MAJOR": capability[0],
            "COMPUTE_CAPABILITY_MINOR": capability[1],
            "INTEGRATED": int(integrated),
            "MULTIPROCESSOR_COUNT": 4,
            "MAX_PITCH": 2**31 - 1,
        }
        self.calls: Counter[str] = Counter()
        self.live: dict[str, dict[int, Any]] = {}
        self.retained = 0
        self.haste: np.random.Generator | None = None
        """If given, streams also run ahead of whoever waits for them, at random."""
        self.reset_heals = True
        self.sticky: Any = None
        self.late: Any = None
        """Status that the next work in a stream ends with."""
        self.default_stream = FakeStream()
        self.contexts: dict[int, int] = {}
        """Address → context that the memory belongs to, where it is not the primary one."""
        self.functions: dict[int, str] = {}
        self._failures: dict[str, tuple[int, Any]] = {}
        self._names = 1000

    def __getattr__(self, name: str) -> Any:
        if name.startswith("cu") and name[2].isupper():
            raise AttributeError(f"the fake driver has no {name}")
        return getattr(real, name)

    def __getattribute__(self, name: str) -> Any:
        value = super().__getattribute__(name)
        if not (name.startswith("cu") and name[2].isupper()):
            return value

        def counted(*arguments: Any) -> Any:
            self.calls[name] += 1
            convert_by_the_real_bindings(name, arguments)
            if name in ("cuGetErrorName", "cuGetErrorString", "cuDevicePrimaryCtxReset"):
                return value(*arguments)
            if self.sticky is not None:
                return self.sticky, None
            wait, status = self._failures.get(name, (-1, None))
            self._failures[name] = (wait - 1, status)
            if wait == 0:
                self._note(status)
                if name == "cuStreamEndCapture":  # ends the capture whatever it answers
                    self.stream_of(arguments[0]).graph = None
                return status, None
            return value(*arguments)

        return counted

    def fail(self, name: str, status: str, after: int = 0) -> None:
        """Let a function return a status, `after` calls from now."""
        self._failures[name] = (after, getattr(Result, status))

    def fail_late(self, status: str) -> None:
        """Let the next work in a stream end with a status, which a later call reports."""
        self.late = getattr(Result, status)

    def _note(self, status: Any) -> None:
        if status.name in STICKY:
            self.sticky = status

    def allocations(self) -> int:
        """Calls so far that allocate or create anything."""
        makers = ("cuMemAlloc", "cuMemHostAlloc", "cuEventCreate", "cuStreamCreate")
        return sum(self.calls[name] for name in (*makers, "cuGraphInstantiate"))

    def left(self) -> dict[str, int]:
        """What was not given back, by kind."""
        return {kind: len(things) for kind, things in self.live.items() if things}

    def _add(self, kind: str, thing: Any, name: int | None = None) -> int:
        self._names += 1
        self.live.setdefault(kind, {})[name or self._names] = thing
        return name or self._names

    def _take(self, kind: str, handle: Any) -> Any:
        return self.live[kind].pop(int(handle))

    def _capturing(self) -> bool:
        return any(s.graph is not None for s in self.live.get("stream", {}).values())

    def stream_of(self, handle: Any) -> FakeStream:
        if int(handle) == 1:  # CU_STREAM_LEGACY
            return self.default_stream
        return self.live["stream"][int(handle)]

    def enqueue(self, handle: Any, work: Work) -> None:
        """Put work into a stream, or into the graph it is captured to."""
        stream = self.stream_of(handle)
        (stream.pending if stream.graph is None else stream.graph).append(work)
        if self.haste is not None and self.haste.random() < 0.5:
            busy = [s for s in self.live["stream"].values() if s.pending]
            for one in busy[: self.haste.integers(len(busy) + 1)]:
                self._drain(one, one.done + int(self.haste.integers(len(one.pending) + 1)))

    def _drain(self, stream: FakeStream, upto: int | None = None) -> Any:
        while stream.pending and (upto is None or stream.done < upto):
            stream.done += 1
            stream.pending.pop(0)()
            if self.late is not None:
                status, self.late = self.late, None
                self._note(status)
                return status
        return self.sticky or OK

    # -- device and context

    def cuInit(self, flags: int) -> Any:
        return (OK,)

    def cuDeviceGet(self, ordinal: int) -> Any:
        found = OK if ordinal == 0 else Result.CUDA_ERROR_INVALID_DEVICE
        return found, real.CUdevice(ordinal)

    def cuDeviceGetName(self, length: int, dev: Any) -> Any:
        return OK, b"Fake GPU\0".ljust(length)

    def cuDeviceGetAttribute(self, attrib: Any, dev: Any) -> Any:
        return OK, self.attributes[attrib.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]

    def cuDevicePrimaryCtxRetain(self, dev: Any) -> Any:
        self.retained += 1
        return OK, real.CUcontext(_PRIMARY)

    def cuDevicePrimaryCtxRelease(self, dev: Any) -> Any:
        self.retained -= 1
        return (OK,)

    def cuDevicePrimaryCtxReset(self, dev: Any) -> Any:
        if self.reset_heals:
            self.sticky = None
        self.live.clear()
        self.retained = 0
        return (OK,)

    def cuCtxSetCurrent(self, ctx: Any) -> Any:
        return (OK,)

    def cuCtxSynchronize(self) -> Any:
        statuses = [self._drain(s) for s in list(self.live.get("stream", {}).values())]
        return (next((s for s in statuses if s != OK), OK),)

    def cuGetErrorName(self, error: Any) -> Any:
        return OK, error.name.encode()

    def cuGetErrorString(self, error: Any) -> Any:
        return OK, error.name.removeprefix("CUDA_ERROR_").lower().replace("_", " ").encode()

    # -- memory

    def _allocate(self, kind: str, size: int) -> Any:
        if self._capturing():
            return Result.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, None
        assert size > 0
        memory = Memory(size)
        return OK, self._add(kind, memory, memory.address)

    def _free(self, kind: str, handle: Any) -> Any:
        for stream in self.live.get("stream", {}).values():
            assert not stream.pending, f"{kind} memory is freed while work is pending"
        self._take(kind, handle).check()
        return (OK,)

    def cuMemAlloc(self, bytesize: int) -> Any:
        status, address = self._allocate("device", bytesize)
        return status, None if address is None else real.CUdeviceptr(address)

    def cuMemFree(self, dptr: Any) -> Any:
        return self._free("device", dptr)

    def cuMemHostAlloc(self, bytesize: int, flags: int) -> Any:
        return self._allocate("host", bytesize)

    def cuMemFreeHost(self, p: Any) -> Any:
        return self._free("host", p)

    def cuMemHostGetDevicePointer(self, p: Any, flags: int) -> Any:
        return OK, real.CUdeviceptr(int(p))

    def cuPointerGetAttribute(self, attribute: Any, ptr: Any) -> Any:
        if not self._holds("device", int(ptr), 1):
            return Result.CUDA_ERROR_INVALID_VALUE, None
        if attribute == real.CUpointer_attribute.CU_POINTER_ATTRIBUTE_CONTEXT:
            return OK, real.CUcontext(self.contexts.get(int(ptr), _PRIMARY))
        return OK, 0

    def _holds(self, kind: str, address: int, size: int) -> bool:
        return any(
            m.address <= address and address + size <= m.address + m.size
            for m in self.live.get(kind, {}).values()
        )

    def _copy(self, stream: Any, to: tuple[str, int], source: tuple[str, int], size: int) -> Any:
        for kind, address in (to, source):
            assert self._holds(kind, address, size), f"{size} bytes are not all {kind} memory"
        self.enqueue(stream, lambda: ctypes.memmove(to[1], source[1], size))
        return (OK,)

    def cuMemcpyHtoD(self, dstDevice: Any, srcHost: int, ByteCount: int) -> Any:
        assert self._holds("device", int(dstDevice), ByteCount)
        self._drain(self.default_stream)
        staged = ctypes.string_at(srcHost, ByteCount)  # from here it goes on while others run
        write = lambda: ctypes.memmove(int(dstDevice), staged, ByteCount) and None  # noqa: E731
        self.default_stream.pending.append(write)
        return (OK,)

    def cuMemcpyAsync(self, dst: Any, src: Any, ByteCount: int, hStream: Any) -> Any:
        kind = "device" if self._holds("device", int(dst), 1) else "host"
        return self._copy(hStream, (kind, int(dst)), ("device", int(src)), ByteCount)

    def cuMemcpyHtoDAsync(self, dstDevice: Any, srcHost: int, ByteCount: int, hStream: Any) -> Any:
        return self._copy(hStream, ("device", int(dstDevice)), ("host", int(srcHost)), ByteCount)

    def cuMemcpyDtoHAsync(self, dstHost: int, srcDevice: Any, ByteCount: int, hStream: Any) -> Any:
        return self._copy(hStream, ("host", int(dstHost)), ("device", int(srcDevice)), ByteCount)

    def cuMemcpy2DAsync(self, pCopy: Any, hStream: Any) -> Any:
        assert pCopy.srcMemoryType == pCopy.dstMemoryType == real.CUmemorytype.CU_MEMORYTYPE_UNIFIED
        source, target = int(pCopy.srcDevice), int(pCopy.dstDevice)
        if max(pCopy.srcPitch, pCopy.dstPitch) > self.attributes["MAX_PITCH"]:
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        for row in range(pCopy.Height):
            to, start = target + row * pCopy.dstPitch, source + row * pCopy.srcPitch
            kind = "device" if self._holds("device", to, 1) else "host"
            self._copy(hStream, (kind, to), ("device", start), pCopy.WidthInBytes)
        return (OK,)

    # -- streams and events

    def cuStreamCreate(self, Flags: int) -> Any:
        return OK, real.CUstream(self._add("stream", FakeStream()))

    def cuStreamDestroy(self, hStream: Any) -> Any:
        assert not self._take("stream", hStream).pending, "a stream is destroyed with work in it"
        return (OK,)

    def cuStreamSynchronize(self, hStream: Any) -> Any:
        if self.stream_of(hStream).graph is not None:
            return (Result.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        return (self._drain(self.stream_of(hStream)),)

    def cuStreamWaitEvent(self, hStream: Any, hEvent: Any, Flags: int) -> Any:
        if self.stream_of(hStream).graph is not None:
            return (Result.CUDA_ERROR_STREAM_CAPTURE_ISOLATION,)
        event = self.live["event"][int(hEvent)]
        of, upto = event.stream, event.index
        if of is not None:
            self.enqueue(hStream, lambda: self._drain(of, upto) and None)
        return (OK,)

    def cuEventCreate(self, Flags: int) -> Any:
        event = FakeEvent(timing=not Flags & int(real.CUevent_flags.CU_EVENT_DISABLE_TIMING))
        return OK, real.CUevent(self._add("event", event))

    def cuEventDestroy(self, hEvent: Any) -> Any:
        self._take("event", hEvent)
        return (OK,)

    def _mark(self, event: FakeEvent) -> Work:
        def happen() -> None:
            event.happened_s = time.perf_counter()

        return happen

    def cuEventRecord(self, hEvent: Any, hStream: Any) -> Any:
        event, stream = self.live["event"][int(hEvent)], self.stream_of(hStream)
        if stream.graph is not None:  # marks a dependency only; the runtime has no use for it
            return (Result.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        event.happened_s = None
        self.enqueue(hStream, self._mark(event))
        event.stream, event.index = stream, stream.done + len(stream.pending)
        return (OK,)

    def cuEventRecordWithFlags(self, hEvent: Any, hStream: Any, flags: int) -> Any:
        assert flags == int(real.CUevent_record_flags.CU_EVENT_RECORD_EXTERNAL)
        if self.stream_of(hStream).graph is None:
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        self.enqueue(hStream, self._mark(self.live["event"][int(hEvent)]))
        return (OK,)

    def cuEventSynchronize(self, hEvent: Any) -> Any:
        event = self.live["event"][int(hEvent)]
        return (OK if event.stream is None else self._drain(event.stream, event.index),)

    def cuEventElapsedTime(self, hStart: Any, hEnd: Any) -> Any:
        start, end = (self.live["event"][int(handle)] for handle in (hStart, hEnd))
        if not (start.timing and end.timing):
            return Result.CUDA_ERROR_INVALID_HANDLE, None
        if start.happened_s is None or end.happened_s is None:
            return Result.CUDA_ERROR_NOT_READY, None
        return OK, (end.happened_s - start.happened_s) * 1e3

    # -- kernels

    def cuModuleLoadData(self, image: bytes) -> Any:
        if image[:4] != b"\x7fELF":
            return Result.CUDA_ERROR_INVALID_IMAGE, None
        return OK, real.CUmodule(self._add("module", image))

    def cuModuleUnload(self, hmod: Any) -> Any:
        self._take("module", hmod)
        return (OK,)

    def cuModuleGetFunction(self, hmod: Any, name: bytes) -> Any:
        if b".text." + name + b"\0" not in self.live["module"][int(hmod)]:
            return Result.CUDA_ERROR_NOT_FOUND, None
        return OK, self._function(name.decode())

    def _function(self, name: str) -> Any:
        self._names += 1
        self.functions[self._names] = name
        return real.CUfunction(self._names)

    def cuLaunchKernel(
        self,
        f: Any,
        gridDimX: int,
        gridDimY: int,
        gridDimZ: int,
        blockDimX: int,
        blockDimY: int,
        blockDimZ: int,
        sharedMemBytes: int,
        hStream: Any,
        kernelParams: int,
        extra: int,
    ) -> Any:
        if blockDimX > 1024 or not gridDimX * gridDimY * blockDimX:
            return (Result.CUDA_ERROR_INVALID_VALUE,)
        # Any number of threads is right for it, and a thousand threads of the host are slow.
        name = self.functions[int(f)]
        threads = min(blockDimX, 16) if name in ("pool_count", "pool_score") else blockDimX
        library = kernel_library()
        sizes = (ctypes.c_uint * 64)()
        count = getattr(library, f"sizes_{name}")(sizes)
        pointers = (ctypes.c_void_p * count).from_address(kernelParams)
        copies = [ctypes.string_at(pointers[i], sizes[i]) for i in range(count)]

        def run() -> None:
            values = [ctypes.create_string_buffer(copy, len(copy)) for copy in copies]
            table = (ctypes.c_void_p * count)(*map(ctypes.addressof, values))
            getattr(library, f"launch_{name}")(gridDimX, gridDimY, threads, table)

        self.enqueue(hStream, run)
        return (OK,)

    # -- graphs

    def cuStreamBeginCapture(self, hStream: Any, mode: Any) -> Any:
        self.stream_of(hStream).graph = []
        return (OK,)

    def cuStreamEndCapture(self, hStream: Any) -> Any:
        stream = self.stream_of(hStream)
        graph, stream.graph = stream.graph, None
        return OK, real.CUgraph(self._add("graph", graph))

    def cuGraphInstantiate(self, hGraph: Any, flags: int) -> Any:
        captured = list(self.live["graph"][int(hGraph)])
        return OK, real.CUgraphExec(self._add("executable graph", captured))

    def cuGraphDestroy(self, hGraph: Any) -> Any:
        self._take("graph", hGraph)
        return (OK,)

    def cuGraphExecDestroy(self, hGraphExec: Any) -> Any:
        self._take("executable graph", hGraphExec)
        return (OK,)

    def cuGraphLaunch(self, hGraphExec: Any, hStream: Any) -> Any:
        for work in self.live["executable graph"][int(hGraphExec)]:
            self.enqueue(hStream, work)
        return (OK,)
