"""The driver module on a fake driver: order of work, graphs, errors and what is given back."""

from __future__ import annotations

import ctypes
import gc
import inspect
import re
import sys

import numpy as np
import pytest
from fake_cuda import FakeDriver, real

from dad_edge.errors import DeviceError, MissingDependency
from dad_edge.runtime.gpu.driver import Device
from dad_edge.runtime.gpu.status import STICKY


def test_the_fake_takes_the_arguments_that_the_real_functions_take() -> None:
    functions = {name: f for name, f in vars(FakeDriver).items() if re.match(r"cu[A-Z]", name)}
    assert len(functions) > 30
    for name, function in functions.items():
        [signature] = re.findall(rf"^{name}\((.*)\)", getattr(real, name).__doc__, re.MULTILINE)[:1]
        arguments = re.findall(r"(\w+)(?:: [^,]*)?(?:,|$)", signature)
        fake = list(inspect.signature(function).parameters)[1:]
        assert [a.lower() for a in fake] == [a.lower() for a in arguments], name


def test_sticky_statuses_are_names_of_the_driver() -> None:
    assert set(real.CUresult.__members__) >= STICKY


def test_what_the_device_is(driver: FakeDriver) -> None:
    device = Device()
    assert (device.name, device.arch, device.integrated) == ("Fake GPU", "sm_89", False)
    device.close()
    device.close()
    assert driver.retained == 0


def test_without_the_bindings_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", None)
    with pytest.raises(MissingDependency) as caught:
        Device()
    assert "dad-edge[cuda]" in caught.value.next_step


def test_without_a_driver_library_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object) -> None:
        raise RuntimeError('"cuda" is an NVIDIA driver library\n that is not here.')

    fake = FakeDriver()
    monkeypatch.setattr(fake, "cuInit", missing)
    monkeypatch.setitem(sys.modules, "cuda.bindings.driver", fake)
    with pytest.raises(DeviceError, match=r"cannot do cuInit: .* that is not here") as caught:
        Device()
    assert "doctor" in caught.value.next_step


def test_work_runs_when_it_is_waited_for_and_in_order(driver: FakeDriver) -> None:
    device = Device()
    first, second = device.stream(), device.stream()
    host, back = device.allocate_host(8), device.allocate_host(8)
    buffer, event = device.allocate(8), device.event()
    back.bytes[:] = 0
    host.bytes[:] = 1
    device.copy_in(buffer.address, host.address, 8, first)
    device.record(event, first)
    device.wait(second, event)
    device.copy_out(back.address, buffer.address, 8, second)
    host.bytes[:] = 2  # too early: the copy has not run
    device.synchronize(second)
    assert back.bytes.tolist() == [2] * 8
    device.close()
    assert driver.left() == {}


def test_rows_are_copied_without_their_padding(driver: FakeDriver) -> None:
    device = Device()
    stream = device.stream()
    source = device.upload(np.arange(24, dtype=np.uint8))
    target, back = device.allocate(9), device.allocate_host(9)
    device.copy_rows(target.address, source.address + 1, 8, 3, 3, stream)
    device.copy_out(back.address, target.address, 9, stream)
    device.synchronize(stream)
    assert back.bytes.tolist() == [1, 2, 3, 9, 10, 11, 17, 18, 19]
    device.close()


def test_rows_without_gaps_have_no_largest_pitch(driver: FakeDriver) -> None:
    driver.attributes["MAX_PITCH"] = 16
    device = Device()
    stream, source, target = device.stream(), device.allocate(64), device.allocate(64)
    device.copy_rows(target.address, source.address, 32, 32, 2, stream)
    with pytest.raises(DeviceError, match="INVALID_VALUE"):
        device.copy_rows(target.address, source.address, 32, 31, 2, stream)
    device.close()


def test_constants_are_there_before_any_stream_reads_them(driver: FakeDriver) -> None:
    device = Device()
    stream, back = device.stream(), device.allocate_host(4)
    source = device.upload(np.arange(4, dtype=np.uint8))
    device.copy_out(back.address, source.address, 4, stream)  # does not wait for the default one
    device.synchronize(stream)
    assert back.bytes.tolist() == [0, 1, 2, 3]
    device.close()


def test_nothing_is_collected_while_a_graph_is_captured(driver: FakeDriver) -> None:
    device = Device()
    stream, seen = device.stream(), []
    device.capture(stream, lambda: seen.append(gc.isenabled()))
    assert (seen, gc.isenabled()) == ([False], True)
    with pytest.raises(ZeroDivisionError):
        device.capture(stream, lambda: 1 // 0 and None)
    assert gc.isenabled()
    driver.fail("cuStreamBeginCapture", "CUDA_ERROR_OUT_OF_MEMORY")
    with pytest.raises(DeviceError):
        device.capture(stream, lambda: None)
    assert gc.isenabled()
    device.close()


def test_a_graph_replays_what_was_captured(driver: FakeDriver) -> None:
    device = Device()
    stream, start, end = device.stream(), device.event(timing=True), device.event(timing=True)
    host, buffer, back = device.allocate_host(4), device.allocate(4), device.allocate_host(4)

    def enqueue() -> None:
        device.record_in_graph(start, stream)
        device.copy_in(buffer.address, host.address, 4, stream)
        device.copy_out(back.address, buffer.address, 4, stream)
        device.record_in_graph(end, stream)

    back.bytes[:] = 9
    graph = device.capture(stream, enqueue)
    device.synchronize(stream)
    assert back.bytes.tolist() == [9] * 4, "capturing runs nothing"
    for value in (3, 4):
        host.bytes[:] = value
        device.launch_graph(graph, stream)
        device.synchronize(stream)
        assert back.bytes.tolist() == [value] * 4
    assert device.elapsed_ms(start, end) > 0
    device.close()
    assert driver.left() == {}


def test_allocating_in_a_capture_is_refused_and_leaves_nothing(driver: FakeDriver) -> None:
    device = Device()
    stream = device.stream()
    with pytest.raises(DeviceError, match="cuMemAlloc: CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
        device.capture(stream, lambda: device.allocate(4) and None)
    device.synchronize(stream)
    stream.close()
    assert driver.left() == {}
    device.close()


@pytest.mark.parametrize(
    ("status", "step"),
    [
        ("CUDA_ERROR_OUT_OF_MEMORY", "close other programs"),
        ("CUDA_ERROR_NOT_SUPPORTED", "dad-edge doctor"),
    ],
)
def test_an_error_is_named_and_the_device_goes_on(
    driver: FakeDriver, status: str, step: str
) -> None:
    device = Device()
    driver.fail("cuMemAlloc", status)
    with pytest.raises(DeviceError, match=f"refused cuMemAlloc: {status}, ") as caught:
        device.allocate(1)
    assert step in caught.value.next_step
    assert device.lost is None
    device.allocate(1)
    device.close()
    assert driver.left() == {}


def test_a_sticky_error_loses_the_device_until_it_is_opened_again(driver: FakeDriver) -> None:
    device = Device()
    stream, buffer = device.stream(), device.allocate(4)
    host = device.allocate_host(4)
    device.copy_in(buffer.address, host.address, 4, stream)
    driver.fail_late("CUDA_ERROR_ILLEGAL_ADDRESS")
    with pytest.raises(
        DeviceError, match=r"lost in cuStreamSynchronize: .*ILLEGAL_ADDRESS"
    ) as caught:
        device.synchronize(stream)
    assert "open it again" in caught.value.next_step
    with pytest.raises(DeviceError, match="ILLEGAL_ADDRESS"):
        device.allocate(4)
    device.close()
    assert driver.calls["cuDevicePrimaryCtxReset"] == 1
    again = Device()
    again.allocate(4)
    again.close()
    assert driver.left() == {}


def test_memory_that_pytorch_holds_is_not_reset_under_it(driver: FakeDriver) -> None:
    device = Device()
    device.shared_with_torch = True
    driver.fail("cuMemAlloc", "CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(DeviceError) as caught:
        device.allocate(4)
    assert "restart the program" in caught.value.next_step
    device.close()
    assert driver.calls["cuDevicePrimaryCtxReset"] == 0


def test_where_cuda_cannot_restart_the_error_says_so_again(driver: FakeDriver) -> None:
    driver.reset_heals = False
    device = Device()
    driver.fail("cuMemAlloc", "CUDA_ERROR_LAUNCH_FAILED")
    with pytest.raises(DeviceError):
        device.allocate(4)
    device.close()
    with pytest.raises(DeviceError, match="LAUNCH_FAILED"):
        Device()


def test_a_kernel_gets_its_arguments_as_they_were_at_the_launch(driver: FakeDriver) -> None:
    pytest.importorskip("cuda.core")
    from dad_edge.kernels.compile import compile_cubin

    device = Device()
    stream = device.stream()
    module = device.load(compile_cubin("pool", device.arch))
    masks = device.upload(np.arange(16, dtype=np.float32))
    broken, heat = device.upload(np.zeros(1, np.uint32)), device.allocate(16)
    anomaly_map, back = device.allocate(64), device.allocate_host(64)
    counts = device.allocate(3 * 2048 * 4)
    size = ctypes.c_int(4)
    places = (masks.address, 0, broken.address, anomaly_map.address, heat.address, counts.address)
    arguments = [*map(ctypes.c_void_p, places), size, ctypes.c_int(1)]
    device.launch(device.function(module, "pool_map_f32"), (1, 1), 32, stream, arguments)
    size.value = 1
    device.copy_out(back.address, anomaly_map.address, 64, stream)
    device.synchronize(stream)
    assert back.bytes.view(np.float32).tolist() == list(range(16))
    with pytest.raises(DeviceError, match="CUDA_ERROR_NOT_FOUND"):
        device.function(module, "inject_f32")
    with pytest.raises(DeviceError, match="CUDA_ERROR_INVALID_IMAGE"):
        device.load(b"text")
    device.close()
    assert driver.left() == {}
