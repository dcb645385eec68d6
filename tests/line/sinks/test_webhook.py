from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from judged_frames import event, judged

from dad_edge.errors import StorageError
from dad_edge.line.settings import Secret, WebhookSettings
from dad_edge.line.sinks import webhook
from dad_edge.line.sinks.webhook import WebhookSink


class Server:
    """A real HTTP server that answers as it is told."""

    def __init__(self) -> None:
        self.status = 200
        self.taken: list[dict[str, object]] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if outer.status == 200:
                    outer.taken.append(json.loads(body))
                    outer.headers.append(dict(self.headers))
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.close()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(webhook, "FIRST_WAIT_S", 0.0)


def test_rejected_parts_and_events_are_sent(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOOK_TOKEN", "s3cret")
    token = Secret(environment="HOOK_TOKEN")
    sink = WebhookSink(tmp_path, WebhookSettings(url=server.url, token=token))
    for number, score in ((1, 0.1), (2, 0.9)):
        sink.write(judged(number, score=score))
    sink.event(event())
    sink.flush()
    assert [record.get("index", record.get("kind")) for record in server.taken] == [2, "offline"]
    assert server.headers[0]["Authorization"] == "Bearer s3cret"
    assert list(tmp_path.iterdir()) == []
    sink.close()


def test_what_a_server_does_not_take_is_sent_later_in_order_also_after_a_restart(
    tmp_path: Path, server: Server
) -> None:
    settings = WebhookSettings(url=server.url, all_parts=True)
    sink = WebhookSink(tmp_path, settings)
    server.status = 503
    for number in range(3):
        sink.write(judged(number))
        with pytest.raises(StorageError, match="answered 503"):
            sink.flush()
    sink.close()
    server.status = 200
    sink = WebhookSink(tmp_path, settings)
    sink.write(judged(3))
    sink.flush()
    assert [record["index"] for record in server.taken] == [0, 1, 2, 3]
    sink.close()


def test_a_server_that_is_gone_is_left_alone_for_a_while(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook, "FIRST_WAIT_S", 3600.0)
    monkeypatch.setattr(webhook, "LONGEST_WAIT_S", 3600.0)
    gone = WebhookSettings(url="http://user:pa55@127.0.0.1:9/hook", all_parts=True, timeout_s=0.5)
    sink = WebhookSink(tmp_path, gone)
    sink.write(judged(1))
    for _ in range(2):  # the second time nothing is tried, and the same is said
        with pytest.raises(StorageError, match="does not answer") as caught:
            sink.flush()
        assert "pa55" not in caught.value.message
    sink.close()


def test_what_a_server_refuses_for_good_is_dropped(tmp_path: Path, server: Server) -> None:
    sink = WebhookSink(tmp_path, WebhookSettings(url=server.url, all_parts=True))
    server.status = 401
    sink.write(judged(1))
    with pytest.raises(StorageError, match="answered 401; the record was dropped"):
        sink.flush()
    server.status = 200
    sink.write(judged(2))
    sink.flush()
    assert [record["index"] for record in server.taken] == [2]
    sink.close()


def test_the_spool_is_bounded(tmp_path: Path) -> None:
    sink = WebhookSink(
        tmp_path, WebhookSettings(url="http://127.0.0.1:9/", all_parts=True, spool=5)
    )
    for number in range(12):
        sink.write(judged(number))
    kept = [json.loads(path.read_bytes())["index"] for path in sorted(tmp_path.iterdir())]
    assert kept == [7, 8, 9, 10, 11]
    sink.close()
