from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import cv2
import httpx
import numpy as np
import pytest
from line_outlets import Kept

from dad_edge.bundle import Bundle
from dad_edge.errors import UsageError
from dad_edge.line.command import run_line
from dad_edge.line.config import CameraConfig, LineConfig
from dad_edge.line.runner import Line
from dad_edge.line.settings import StoreSettings
from dad_edge.line.sinks.store import DATABASE, ResultStore, StoreSink
from dad_edge.machine.signals import StopRequest
from dad_edge.web import api
from dad_edge.web.guard import LARGEST_BODY, LARGEST_PICTURE
from dad_edge.web.server import RunningWeb, start_web

PATIENCE_S = 120.0
PNG = {"Content-Type": "image/png"}


def picture(value: int) -> bytes:
    return bytes(cv2.imencode(".png", np.full((40, 50, 3), value, np.uint8))[1])


def config(bundle: Bundle, folder: Path, **sources: str) -> LineConfig:
    cameras = {
        name: CameraConfig(source=source, bundle=str(bundle.path))
        for name, source in sources.items()
    }
    return LineConfig(cameras=cameras, folder=str(folder))


class Running:
    """A line at work, with its page."""

    def __init__(self, line: Line, folder: Path) -> None:
        self.line = line
        self.kept, self._stop = Kept(), StopRequest()
        self._thread = threading.Thread(
            target=lambda: line.work(lambda on_event: self.kept, self._stop)
        )
        self._thread.start()
        StoreSink(folder / DATABASE, StoreSettings()).close()
        self.web: RunningWeb = start_web(
            line, ResultStore(folder / DATABASE), folder / "flagged", "127.0.0.1:0"
        )

    def post(
        self, content: bytes, camera: str = "", headers: dict[str, str] = PNG
    ) -> httpx.Response:
        return httpx.post(
            f"{self.web.url}inspect",
            params={"camera": camera} if camera else {},
            content=content,
            headers=headers,
            timeout=PATIENCE_S,
        )

    def close(self) -> None:
        self.web.close()
        self._stop.signal_number = 15
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()


@pytest.fixture
def running(
    tiny_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Running]:
    monkeypatch.setattr(api, "_VERDICT_S", PATIENCE_S)
    folder = tmp_path / "line"
    folder.mkdir()
    found = Running(Line(config(tiny_bundle, folder, gate="post://", drawn="demo://")), folder)
    yield found
    found.close()


def test_a_posted_picture_is_answered_with_its_verdict_and_recorded(running: Running) -> None:
    for value, verdict in ((250, "defect"), (20, "good")):
        answer = running.post(picture(value))
        assert answer.status_code == 200, answer.text
        record = answer.json()
        assert (record["camera"], record["verdict"]) == ("gate", verdict)
        [kept] = [judged for judged in running.kept.frames if judged.id == record["id"]]
        assert kept.verdict == verdict
    state = httpx.get(f"{running.web.url}api/line").json()
    [gate] = [camera for camera in state["cameras"] if camera["name"] == "gate"]
    assert (gate["frames"], gate["online"]) == (2, True)


def test_each_of_many_at_once_gets_its_own_verdict(running: Running) -> None:
    values = [250, 20, 250, 20, 20, 250]
    with ThreadPoolExecutor(len(values)) as pool:
        answers = list(pool.map(lambda value: running.post(picture(value), "gate"), values))
    verdicts = [answer.json()["verdict"] for answer in answers]
    assert verdicts == ["defect" if value == 250 else "good" for value in values]
    assert len({answer.json()["id"] for answer in answers}) == len(values)


def test_what_cannot_be_inspected_is_told(running: Running) -> None:
    damaged = running.post(picture(20)[:-20])
    assert damaged.status_code == 400
    assert "truncated" in damaged.json()["error"]
    assert running.post(b"").status_code == 400
    assert running.post(picture(20), headers={"Content-Type": "text/plain"}).status_code == 415
    drawn = running.post(picture(20), "drawn")
    assert drawn.status_code == 400
    assert "post://" in drawn.json()["next"]
    assert running.post(picture(20), "nobody").status_code == 400
    paused = f"{running.web.url}api/cameras/gate/paused"
    httpx.put(paused, json={"paused": True}).raise_for_status()
    answer = running.post(picture(20))
    assert (answer.status_code, answer.json()["error"]) == (503, "camera gate is paused.")
    httpx.put(paused, json={"paused": False}).raise_for_status()
    assert running.post(picture(20)).json()["verdict"] == "good"


def test_no_verdict_in_time_is_told_and_the_next_picture_inspected(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert running.post(picture(20)).status_code == 200
    monkeypatch.setattr(api, "_VERDICT_S", 0.0)
    late = running.post(picture(20))
    assert late.status_code == 503
    assert "has no verdict" in late.json()["error"]
    monkeypatch.setattr(api, "_VERDICT_S", PATIENCE_S)
    assert running.post(picture(250)).json()["verdict"] == "defect"


def test_pictures_beyond_those_that_may_wait_are_refused(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api, "_MOST_POSTS", 0)
    assert running.post(picture(20)).status_code == 503


def test_a_picture_may_be_larger_than_other_requests_but_not_endless(running: Running) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (200, 200, 3), np.uint8)
    large = bytes(cv2.imencode(".png", noise)[1])
    assert len(large) > LARGEST_BODY
    assert running.post(large).status_code == 200
    address = urlsplit(running.web.url)
    connection = http.client.HTTPConnection(address.netloc, timeout=PATIENCE_S)
    connection.putrequest("POST", "/inspect")
    connection.putheader("Content-Type", "image/png")
    connection.putheader("Content-Length", str(LARGEST_PICTURE + 1))
    connection.endheaders()
    assert connection.getresponse().status == 413
    connection.close()


def test_a_camera_that_waits_for_its_first_picture_is_ready(running: Running) -> None:
    until = time.monotonic() + PATIENCE_S
    while httpx.get(f"{running.web.url}readyz").status_code != 200:
        assert time.monotonic() < until
        time.sleep(0.01)
    [gate] = [c for c in running.line.cameras() if c.name == "gate"]
    assert (gate.frames, gate.online) == (0, True)


def test_another_site_cannot_have_pictures_inspected(running: Running) -> None:
    refused = running.post(picture(20), headers={**PNG, "Origin": "http://evil.example"})
    assert refused.status_code == 403


def test_posting_needs_a_page(tiny_bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="post://"):
        run_line(config(tiny_bundle, tmp_path, gate="post://"))
