from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from fake_line import FakeLine

from dad_edge.errors import DeviceError, UsageError
from dad_edge.line.sinks.store import ResultStore
from dad_edge.web.guard import COOKIE, is_loopback
from dad_edge.web.server import RunningWeb, parse_address, start_web

TOKEN = "a-token-of-enough-characters"
CHANGE = {"json": {"threshold": 0.1}}


@pytest.fixture
def guarded(line: FakeLine, store: ResultStore, tmp_path: Path) -> Iterator[RunningWeb]:
    running = start_web(line, store, tmp_path, "0.0.0.0:0", token=TOKEN)
    yield running
    running.close()


def path_of(web: RunningWeb) -> str:
    return f"{web.url.replace('0.0.0.0', '127.0.0.1')}api/cameras/left/threshold"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", ""]
)
def test_a_name_that_someone_points_here_does_not_open_the_page(web: RunningWeb, host: str) -> None:
    answer = httpx.get(f"{web.url}api/line", headers={"Host": host})
    assert answer.status_code in (400, 421)
    assert "cameras" not in answer.text


@pytest.mark.parametrize("headers", [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
])  # fmt: skip
def test_other_sites_change_nothing(
    line: FakeLine, web: RunningWeb, headers: dict[str, str]
) -> None:
    answer = httpx.put(path_of(web), headers=headers, **CHANGE)  # type: ignore[arg-type]
    assert answer.status_code == 403
    assert line.cameras()[0].threshold == 0.5


def test_the_page_itself_may_change(line: FakeLine, web: RunningWeb) -> None:
    headers = {"Origin": web.url.rstrip("/"), "Sec-Fetch-Site": "same-origin"}
    assert httpx.put(path_of(web), headers=headers, **CHANGE).status_code == 200  # type: ignore[arg-type]
    assert line.cameras()[0].threshold == 0.1


@pytest.mark.parametrize("method", ["DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "BREW"])
def test_other_methods_are_refused(web: RunningWeb, method: str) -> None:
    assert httpx.request(method, f"{web.url}api/line").status_code == 405


def test_large_requests_are_refused(line: FakeLine, web: RunningWeb) -> None:
    body = b'{"threshold": 0.1' + b" " * 70_000 + b"}"
    headers = {"Content-Type": "application/json"}
    assert httpx.put(path_of(web), content=body, headers=headers).status_code == 413
    chunks = iter([body[:1000], body[1000:]])
    try:
        answer = httpx.put(path_of(web), content=chunks, headers=headers)
    except httpx.HTTPError:
        pass  # cut off
    else:
        assert answer.status_code in (400, 413)
    assert line.cameras()[0].threshold == 0.5


def test_nothing_without_the_token(line: FakeLine, guarded: RunningWeb) -> None:
    base = guarded.url.replace("0.0.0.0", "127.0.0.1")
    for path in ("", "api/line", "live", "metrics", "reports/x.html", "openapi.json"):
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Cookie": f"{COOKIE}={TOKEN}"}):
            answer = httpx.get(base + path, headers=headers)
            assert answer.status_code == 401
            assert "left" not in answer.text
    assert httpx.put(path_of(guarded), **CHANGE).status_code == 401  # type: ignore[arg-type]
    assert line.cameras()[0].threshold == 0.5
    for path in ("healthz", "readyz", "login"):
        assert httpx.get(base + path).status_code == 200


def test_machines_send_the_token_and_people_log_in(line: FakeLine, guarded: RunningWeb) -> None:
    base = guarded.url.replace("0.0.0.0", "127.0.0.1")
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert httpx.get(f"{base}api/line", headers=bearer).status_code == 200
    with httpx.Client(base_url=base) as browser:
        assert browser.post("/login", data={"token": "wrong"}).status_code == 403
        done = browser.post("/login", data={"token": TOKEN})
        assert done.status_code == 303
        cookie = done.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        assert TOKEN not in cookie
        assert browser.get("/api/line").status_code == 200


def test_every_answer_is_hardened(web: RunningWeb) -> None:
    for path in ("", "api/line", "page/page.js", "nothing"):
        headers = httpx.get(f"{web.url}{path}").headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_other_machines_need_a_token(line: FakeLine, store: ResultStore, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="token"):
        start_web(line, store, tmp_path, "0.0.0.0:0")
    with pytest.raises(UsageError, match="shorter"):
        start_web(line, store, tmp_path, "127.0.0.1:0", token="short")


def test_a_taken_port_is_said(line: FakeLine, store: ResultStore, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(DeviceError, match="cannot listen") as caught:
            start_web(line, store, tmp_path, f"127.0.0.1:{port}")
    assert "--web" in caught.value.next_step


@pytest.mark.parametrize(("address", "expected"), [
    ("127.0.0.1:80", ("127.0.0.1", 80)), (":9000", ("127.0.0.1", 9000)),
    ("line.local", ("line.local", 8080)), ("[::1]:81", ("::1", 81)), ("::1", ("::1", 8080)),
    ("[::1]", ("::1", 8080)), ("0.0.0.0:0", ("0.0.0.0", 0)),
])  # fmt: skip
def test_addresses(address: str, expected: tuple[str, int]) -> None:
    assert parse_address(address) == expected


def test_a_number_alone_is_a_port() -> None:
    assert parse_address("8123") == ("127.0.0.1", 8123)


@pytest.mark.parametrize("address", ["host:port", "host:99999", "http://host:80", "a b:1", "x:²"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(UsageError, match="no address"):
        parse_address(address)


@pytest.mark.parametrize(("host", "alone"), [
    ("localhost", True), ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True),
    ("0.0.0.0", False), ("192.168.0.2", False), ("line.local", False), ("::", False),
])  # fmt: skip
def test_what_is_of_this_machine_alone(host: str, alone: bool) -> None:
    assert is_loopback(host) == alone
