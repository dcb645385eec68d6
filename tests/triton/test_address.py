from __future__ import annotations

import pytest

from dad_edge.errors import UsageError
from dad_edge.triton.address import Address, is_address, is_local, parse_address


def test_addresses_of_servers() -> None:
    assert parse_address("triton://inspect") == Address(
        ("inspect:8001",), "dad_edge_inspect", "grpc", False
    )
    assert parse_address("grpcs://a:9001,10.0.0.2,[::1]:7/bolts") == Address(
        ("a:9001", "10.0.0.2:8001", "[::1]:7"), "bolts", "grpc", True
    )
    assert parse_address("http://a/bolts") == Address(("a:8000",), "bolts", "http", False)
    assert parse_address("https://a").hosts == ("a:443",)
    assert is_address("triton://a")
    assert is_address("https://a")
    assert not is_address("rtsp://a")
    assert is_local("localhost:8001")
    assert is_local("[::1]:8001")
    assert not is_local("10.0.0.1:8001")
    assert not is_address("cpu-openvino-int8")
    assert not is_address("triton")


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("triton://", "''"),
        ("triton://a,,b", "''"),
        ("triton://a:0", "'a:0'"),
        ("triton://a:70000", "'a:70000'"),
        ("triton://http://a", "'http:'"),
        ("triton://a/b/c", "'b/c'"),
        ("triton://a b", "'a b'"),
    ],
)
def test_what_is_no_address_is_refused_with_the_part_at_fault(text: str, part: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_address(text)
    assert part in caught.value.message
    assert "triton://HOST:8001" in caught.value.next_step
