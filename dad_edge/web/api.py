"""Handlers of the page and of the machine interface."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    HTMLResponse,
    JSONResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route

from dad_edge.errors import DadEdgeError, DataError, UsageError
from dad_edge.line.records import record_of
from dad_edge.line.seams import LineControl
from dad_edge.line.sinks.flagged import picture_of
from dad_edge.line.sinks.store import MARKS, Mark, ResultStore
from dad_edge.web.guard import COOKIE, INSPECT, is_token, session_of
from dad_edge.web.live import LOOKS, MOST_VIEWERS, Live
from dad_edge.web.metrics import CONTENT_TYPE, exposition, why_not_ready
from dad_edge.web.openapi import document

PAGE_FILES = {
    "icon.svg": "image/svg+xml",
    "page.css": "text/css",
    "page.js": "text/javascript",
    "live.js": "text/javascript",
    "camera.js": "text/javascript",
    "gallery.js": "text/javascript",
}
REPORT_SUFFIXES = frozenset({".html", ".png", ".jpg", ".svg", ".css", ".json"})
_REPORT_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'self' 'unsafe-inline'"
_WRONG_TOKEN_S = 0.5
_LARGEST_PAGE = 200
_MOST_POSTS = 8
"""Posted pictures that are held at once, each of up to `LARGEST_PICTURE` bytes."""
_VERDICT_S = 10.0


class _Threshold(msgspec.Struct, forbid_unknown_fields=True):
    threshold: float


class _Paused(msgspec.Struct, forbid_unknown_fields=True):
    paused: bool


class _Mark(msgspec.Struct, forbid_unknown_fields=True):
    mark: Mark | None


class Pages:
    """All that can be asked for, of one line."""

    def __init__(
        self,
        control: LineControl,
        store: ResultStore,
        flagged: Path,
        token: str | None,
        reports: Path | None,
    ) -> None:
        self._control = control
        self._store = store
        self._flagged = flagged
        self._token = token
        self._reports = reports
        self._live = Live(control)
        self._posts = 0

    def routes(self) -> list[Route]:
        """Paths and their handlers."""
        return [
            Route("/", self.page),
            Route("/login", self.login, methods=["GET", "POST"]),
            Route("/page/{name}", self.page_file),
            Route("/live", self.live),
            Route("/healthz", self.healthz),
            Route("/readyz", self.readyz),
            Route("/metrics", self.metrics),
            Route("/openapi.json", self.openapi),
            Route(INSPECT, self.inspect, methods=["POST"]),
            Route("/api/line", self.line),
            Route("/api/hours", self.hours),
            Route("/api/notes", self.notes),
            Route("/api/parts", self.parts),
            Route("/api/parts/{part}/mark", self.mark, methods=["PUT"]),
            Route("/api/parts/{part}/{name}", self.picture),
            Route("/api/cameras/{camera}/frame.jpg", self.frame),
            Route("/api/cameras/{camera}/what-if", self.what_if),
            Route("/api/cameras/{camera}/threshold", self.threshold, methods=["PUT"]),
            Route("/api/cameras/{camera}/paused", self.paused, methods=["PUT"]),
            Route("/api/reports", self.reports),
            Route("/reports/{path:path}", self.report),
        ]

    # The page.

    async def page(self, request: Request) -> Response:
        return HTMLResponse(_resource("page.html"))

    async def page_file(self, request: Request) -> Response:
        name = request.path_params["name"]
        if name not in PAGE_FILES:
            raise HTTPException(404, "there is no such file")
        return Response(_resource(name), media_type=PAGE_FILES[name])

    async def login(self, request: Request) -> Response:
        if request.method == "GET":
            return HTMLResponse(_resource("login.html"))
        given = (await _body(request)).decode("utf-8", "replace")
        token = dict(_form(given)).get("token", "")
        if self._token is None or not is_token(token, self._token):
            await asyncio.sleep(_WRONG_TOKEN_S)
            return HTMLResponse(_resource("login.html").replace(b"hidden", b""), 403)
        answer = RedirectResponse("/", 303)
        answer.set_cookie(
            COOKIE, session_of(self._token), httponly=True, samesite="strict", max_age=30 * 86400
        )
        return answer

    async def live(self, request: Request) -> Response:
        look = request.query_params.get("look", "heat")
        if look not in LOOKS:
            raise HTTPException(400, f"look is one of {', '.join(LOOKS)}")
        if self._live.viewers >= MOST_VIEWERS:
            raise HTTPException(503, f"{MOST_VIEWERS} browsers are looking already")
        return StreamingResponse(self._live.messages(look), media_type=self._live.media_type)

    # For machines.

    async def healthz(self, request: Request) -> Response:
        return JSONResponse({"alive": True})

    async def readyz(self, request: Request) -> Response:
        reasons = why_not_ready(self._control)
        return JSONResponse({"ready": not reasons}, 503 if reasons else 200)

    async def metrics(self, request: Request) -> Response:
        return Response(exposition(self._control), media_type=CONTENT_TYPE)

    async def openapi(self, request: Request) -> Response:
        return JSONResponse(document())

    async def line(self, request: Request) -> Response:
        state = self._live.state()
        return JSONResponse({**state, "not_ready": why_not_ready(self._control)})

    async def inspect(self, request: Request) -> Response:
        kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
        if not kind.startswith("image/") and kind != "application/octet-stream":
            raise HTTPException(415, "send the bytes of a picture file, as image/png or its kind")
        if self._posts >= _MOST_POSTS:
            raise HTTPException(503, f"{_MOST_POSTS} pictures wait already; try again")
        self._posts += 1
        try:
            content = await _body(request)
            camera = request.query_params.get("camera", "")
            judged = await run_in_threadpool(self._control.inspect, camera, content, _VERDICT_S)
        finally:
            self._posts -= 1
        return JSONResponse(record_of(judged))

    async def hours(self, request: Request) -> Response:
        hours = _number(request, "hours", 24, 1, 24 * 31)
        return JSONResponse(await run_in_threadpool(self._store.hours, hours))

    async def notes(self, request: Request) -> Response:
        most = _number(request, "most", 100, 1, 1000)
        return JSONResponse(await run_in_threadpool(self._store.notes, most))

    async def parts(self, request: Request) -> Response:
        query = request.query_params
        mark = query.get("mark", "")
        if mark not in ("", "any", "none", *MARKS):
            raise HTTPException(400, "mark is any, none, fine or defect")

        def found() -> list[dict[str, Any]]:
            parts = self._store.parts(
                camera=query.get("camera", ""),
                flagged=query.get("flagged", "") == "true",
                verdict=query.get("verdict", ""),
                mark=mark,
                before=query.get("before", ""),
                most=_number(request, "most", 60, 1, 1000),
            )
            return [
                {**asdict(part), "pictures": self._picture(part.id, "view.jpg") is not None}
                for part in parts
            ]

        return JSONResponse(await run_in_threadpool(found))

    async def mark(self, request: Request) -> Response:
        mark = (await _json(request, _Mark)).mark
        part = request.path_params["part"]
        await run_in_threadpool(self._store.mark, part, mark)
        return JSONResponse({"id": part, "mark": mark})

    async def picture(self, request: Request) -> Response:
        path = self._picture(request.path_params["part"], request.path_params["name"])
        if path is None:
            raise HTTPException(404, "this part has no picture any more")
        return FileResponse(path, headers={"Cache-Control": "private, max-age=86400"})

    def _picture(self, part: str, name: str) -> Path | None:
        return picture_of(self._flagged, part, name)

    async def frame(self, request: Request) -> Response:
        judged = self._control.latest(request.path_params["camera"])
        if judged is None:
            raise HTTPException(404, "there is no such camera, or it has inspected nothing yet")
        look = request.query_params.get("look", "heat")
        if look not in LOOKS:
            raise HTTPException(400, f"look is one of {', '.join(LOOKS)}")
        content = await run_in_threadpool(self._live.picture, judged, look)
        return Response(content, media_type="image/jpeg")

    async def what_if(self, request: Request) -> Response:
        try:
            threshold = float(request.query_params.get("threshold", ""))
        except ValueError:
            threshold = math.nan
        if not 0 <= threshold <= 1:
            raise HTTPException(400, "threshold is a number from 0 to 1")
        camera = request.path_params["camera"]
        found = await run_in_threadpool(self._store.what_if, camera, threshold)
        return JSONResponse(asdict(found))

    async def threshold(self, request: Request) -> Response:
        value = (await _json(request, _Threshold)).threshold
        camera = request.path_params["camera"]
        before = await run_in_threadpool(self._control.set_threshold, camera, value)
        return JSONResponse({"camera": camera, "before": before, "after": value})

    async def paused(self, request: Request) -> Response:
        paused = (await _json(request, _Paused)).paused
        camera = request.path_params["camera"]
        await run_in_threadpool(self._control.pause, camera, paused)
        return JSONResponse({"camera": camera, "paused": paused})

    # Reports of `evaluate` and `verify`.

    async def reports(self, request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(self._found_reports))

    def _found_reports(self) -> list[str]:
        if self._reports is None or not self._reports.is_dir():
            return []
        pages = sorted(self._reports.glob("**/*.html"))[:_LARGEST_PAGE]
        return [str(path.relative_to(self._reports)) for path in pages]

    async def report(self, request: Request) -> Response:
        path = await run_in_threadpool(self._report_at, request.path_params["path"])
        if path is None:
            raise HTTPException(404, "there is no such report")
        return FileResponse(path, headers={"Content-Security-Policy": _REPORT_POLICY})

    def _report_at(self, name: str) -> Path | None:
        if self._reports is None or "\0" in name:
            return None
        base = self._reports.resolve()
        path = (base / name).resolve()
        inside = path.is_relative_to(base) and path.suffix.lower() in REPORT_SUFFIXES
        return path if inside and path.is_file() else None


async def explained(request: Request, error: Exception) -> Response:
    """An error of the program as an answer."""
    assert isinstance(error, DadEdgeError)
    status = 400 if isinstance(error, UsageError | DataError) else 503
    return JSONResponse({"error": error.message, "next": error.next_step}, status)


async def refused(request: Request, error: Exception) -> Response:
    """An error of the request as an answer."""
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


EXCEPTION_HANDLERS: dict[Any, Callable[[Request, Exception], Awaitable[Response]]] = {
    DadEdgeError: explained,
    HTTPException: refused,
}


def _resource(name: str) -> bytes:
    return files("dad_edge.web").joinpath("page", name).read_bytes()


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except ClientDisconnect as error:
        raise HTTPException(413, "the request is too large") from error


async def _json(request: Request, kind: type[Any]) -> Any:
    if request.headers.get("content-type", "").split(";")[0].strip() != "application/json":
        raise HTTPException(415, "send JSON, as application/json")
    try:
        return msgspec.json.decode(await _body(request), type=kind)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
        raise HTTPException(400, f"the request cannot be read: {error}") from error


def _form(text: str) -> list[tuple[str, str]]:
    from urllib.parse import parse_qsl

    return parse_qsl(text, max_num_fields=4)


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query_params.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and low <= int(text) <= high):
        raise HTTPException(400, f"{name} is a number from {low} to {high}")
    return int(text)
