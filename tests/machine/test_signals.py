from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from dad_edge.machine.signals import StopRequest, unwind_on_signals


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Handlers as this test finds them, Ctrl-C that raises, and SIGHUP that nohup does not hide."""
    earlier = {number: signal.getsignal(number) for number in StopRequest.SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    for number, handler in earlier.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("number", StopRequest.SIGNALS)
def test_a_signal_is_noted_and_the_handlers_come_back(number: signal.Signals) -> None:
    before = [signal.getsignal(each) for each in StopRequest.SIGNALS]
    with StopRequest() as stop:
        assert not stop.requested
        signal.raise_signal(number)
        assert (stop.requested, stop.signal_number) == (True, number)
    assert [signal.getsignal(each) for each in StopRequest.SIGNALS] == before


def test_a_terminal_that_closes_may_say_so_twice() -> None:
    with StopRequest() as stop:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):
            signal.raise_signal(number)
        assert stop.signal_number == signal.SIGTERM


@pytest.mark.parametrize("first", StopRequest.SIGNALS)
def test_ctrl_c_after_another_signal_interrupts_at_once(first: signal.Signals) -> None:
    with StopRequest() as stop:
        signal.raise_signal(first)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert stop.signal_number == first


def test_nohup_is_respected() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    unwind_on_signals()
    with StopRequest() as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop.requested
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_outside_of_a_request_the_program_unwinds(number: signal.Signals) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    unwind_on_signals()
    with pytest.raises(SystemExit) as caught:
        signal.raise_signal(number)
    assert caught.value.code == 128 + number
