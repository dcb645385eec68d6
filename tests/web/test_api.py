from __future__ import annotations

import struct
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from fake_line import FakeLine
from prometheus_client.parser import text_string_to_metric_families

from dad_edge.line.sinks.store import ResultStore
from dad_edge.web.api import PAGE_FILES
from dad_edge.web.server import RunningWeb


def wait_for(condition: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.01)


def flagged_part(line: FakeLine, store: ResultStore, folder: Path) -> str:
    judged = line.inspect("left", 0.9)
    assert judged is not None
    wait_for(lambda: store.part(judged.id) is not None)
    wait_for((folder / "results" / "flagged" / judged.id).is_dir)
    return judged.id


def test_the_state_of_the_line(line: FakeLine, web: RunningWeb) -> None:
    line.inspect("left", 0.9)
    line.set_online("right", False)
    state = httpx.get(f"{web.url}api/line").json()
    assert [camera["name"] for camera in state["cameras"]] == ["left", "right"]
    assert state["cameras"][0]["verdicts"]["defect"] == 1
    assert state["not_ready"] == ["right is offline: no frame for 5 s; trying again"]
    assert [sink["name"] for sink in state["sinks"]] == ["jsonl", "store", "flagged"]
    assert state["events"][-1]["kind"] == "offline"


def test_threshold_pause_and_mark_are_all_that_can_be_changed(
    line: FakeLine, store: ResultStore, web: RunningWeb, tmp_path: Path
) -> None:
    part = flagged_part(line, store, tmp_path)
    done = httpx.put(f"{web.url}api/cameras/left/threshold", json={"threshold": 0.25}).json()
    assert done == {"camera": "left", "before": 0.5, "after": 0.25}
    assert line.cameras()[0].threshold == 0.25
    httpx.put(f"{web.url}api/cameras/right/paused", json={"paused": True}).raise_for_status()
    assert line.cameras()[1].paused
    httpx.put(f"{web.url}api/parts/{part}/mark", json={"mark": "fine"}).raise_for_status()
    [found] = httpx.get(f"{web.url}api/parts", params={"mark": "fine"}).json()
    assert (found["id"], found["mark"], found["pictures"]) == (part, "fine", True)
    document = httpx.get(f"{web.url}openapi.json").json()
    writing = {path for path, methods in document["paths"].items() if set(methods) - {"get"}}
    assert writing == {
        "/api/parts/{part}/mark",
        "/api/cameras/{camera}/threshold",
        "/api/cameras/{camera}/paused",
        "/inspect",
    }


def test_every_route_is_in_the_document(web: RunningWeb) -> None:
    from dad_edge.web.api import Pages
    from dad_edge.web.openapi import document

    routes = {route.path for route in Pages.routes(_NoPages())}  # type: ignore[arg-type]
    assert set(document()["paths"]) <= routes
    undocumented = routes - set(document()["paths"])
    assert undocumented == {
        "/", "/login", "/page/{name}", "/live", "/openapi.json", "/reports/{path:path}"
    }  # fmt: skip


class _NoPages:
    def __getattr__(self, name: str) -> object:
        async def handler(request: object) -> None: ...

        return handler


def test_pictures_of_flagged_parts(
    line: FakeLine, store: ResultStore, web: RunningWeb, tmp_path: Path
) -> None:
    part = flagged_part(line, store, tmp_path)
    answer = httpx.get(f"{web.url}api/parts/{part}/frame.png")
    picture = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    latest = line.latest("left")
    assert latest is not None
    assert np.array_equal(picture, latest.result.frame.image)
    assert httpx.get(f"{web.url}api/parts/{part}/other").status_code == 404


def test_what_a_threshold_would_have_done(
    line: FakeLine, store: ResultStore, web: RunningWeb
) -> None:
    for score in (0.2, 0.4, 0.6):
        line.inspect("left", score)
    wait_for(lambda: len(store.parts()) == 3)
    path = f"{web.url}api/cameras/left/what-if"
    found = httpx.get(path, params={"threshold": 0.3}).json()
    assert (found["parts"], found["above_now"], found["above_then"]) == (3, 1, 2)
    for wrong in ("", "nan", "2", "x"):
        assert httpx.get(path, params={"threshold": wrong}).status_code == 400


def test_live_frames_and_states_come_in_one_answer(line: FakeLine, web: RunningWeb) -> None:
    judged = line.inspect("right", 0.9)
    assert judged is not None
    seen = {}
    with httpx.stream("GET", f"{web.url}live", params={"look": "plain"}) as answer:
        left = b""
        for chunk in answer.iter_bytes():
            left += chunk
            while len(left) >= 8:
                header, content = struct.unpack("<II", left[:8])
                if len(left) < 8 + header + content:
                    break
                message = __import__("json").loads(left[8 : 8 + header])
                seen[message["message"]] = (message, left[8 + header : 8 + header + content])
                left = left[8 + header + content :]
            if len(seen) == 2:
                break
    assert seen["state"][0]["name"] == "hall-2"
    assert seen["frame"][0]["id"] == judged.id
    picture = cv2.imdecode(np.frombuffer(seen["frame"][1], np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(picture.astype(int) - judged.result.frame.image).mean() < 8


def test_metrics_can_be_read_by_prometheus(line: FakeLine, web: RunningWeb) -> None:
    for score in (0.1, 0.9, 0.9):
        line.inspect("left", score)
    text = httpx.get(f"{web.url}metrics").text
    samples = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert samples["dad_edge_frames_total", "defect", "left"] == 2
    assert samples["dad_edge_camera_online", "right"] == 1
    assert samples["dad_edge_camera_latency_seconds", "left"] == pytest.approx(0.031)
    assert ("dad_edge_sink_lost_total", "store") in samples


def test_alive_and_ready(line: FakeLine, web: RunningWeb) -> None:
    assert httpx.get(f"{web.url}healthz").json() == {"alive": True}
    assert httpx.get(f"{web.url}readyz").status_code == 200
    line.pause("left", True)
    assert httpx.get(f"{web.url}readyz").status_code == 503


@pytest.mark.parametrize("path", [
    "api/parts/..%2f..%2fresults.sqlite/frame.png", "api/parts/%2e%2e/results.sqlite",
    "reports/..%2foutside.html", "reports/%2e%2e/outside.html", "reports/secret.txt",
    "reports/link.html", "reports/%00", "reports//etc/passwd", "page/..%2fapi.py",
    "page/page.html", "api/parts/a-1%00/frame.png",
])  # fmt: skip
def test_nothing_outside_can_be_read(web: RunningWeb, path: str) -> None:
    answer = httpx.get(f"{web.url}{path}")
    assert answer.status_code == 404
    assert "secret" not in answer.text


def test_reports_are_listed_and_opened_without_scripts(web: RunningWeb) -> None:
    assert httpx.get(f"{web.url}api/reports").json() == ["link.html", "report.html"]
    answer = httpx.get(f"{web.url}reports/report.html")
    assert "<h1>Report</h1>" in answer.text
    assert "script" not in answer.headers["content-security-policy"]


@pytest.mark.parametrize(("body", "kind", "status"), [
    (b'{"threshold": 0.5, "more": 1}', "application/json", 400),
    (b'{"threshold": "0.5"}', "application/json", 400),
    (b'{"threshold": 7}', "application/json", 400),
    (b"{" * 60_000, "application/json", 400),
    (b"\xff\xfe", "application/json", 400),
    (b"", "application/json", 400),
    (b'{"threshold": 0.5}', "text/plain", 415),
    (b'{"threshold": 0.5}', "application/x-www-form-urlencoded", 415),
])  # fmt: skip
def test_malformed_requests_change_nothing(
    line: FakeLine, web: RunningWeb, body: bytes, kind: str, status: int
) -> None:
    path = f"{web.url}api/cameras/left/threshold"
    answer = httpx.put(path, content=body, headers={"Content-Type": kind})
    assert answer.status_code == status
    assert answer.json()["error"]
    assert line.cameras()[0].threshold == 0.5


def test_an_unknown_camera_is_said(web: RunningWeb) -> None:
    answer = httpx.put(f"{web.url}api/cameras/nobody/threshold", json={"threshold": 0.5})
    assert answer.status_code == 400
    assert answer.json()["next"]
    assert httpx.get(f"{web.url}api/cameras/nobody/frame.jpg").status_code == 404


def test_all_that_the_page_loads_is_there(web: RunningWeb) -> None:
    page = httpx.get(web.url).text
    assert "http://" not in page
    assert "https://" not in page
    for name, kind in PAGE_FILES.items():
        answer = httpx.get(f"{web.url}page/{name}")
        assert answer.headers["content-type"].startswith(kind)
        assert answer.text
