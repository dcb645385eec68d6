"""What a browser sees live: frames of all cameras and the state of the line, in one answer."""

from __future__ import annotations

import asyncio
import json
import struct
import threading
import time
from collections.abc import AsyncIterator
from dataclasses import asdict
from datetime import datetime
from typing import Any, Literal

import cv2
import numpy as np

from dad_edge.image.pictures import Picture, heat_overlay
from dad_edge.line.records import record_of, record_of_event
from dad_edge.line.seams import Judged, LineControl
from dad_edge.stream.annotate import outline

Look = Literal["heat", "outline", "plain"]
LOOKS: tuple[Look, ...] = ("heat", "outline", "plain")
MOST_FPS = 5.0
"""Of each camera's pictures; frames between them are inspected, but not shown."""
STATE_S = 1.0
MOST_VIEWERS = 32
SIDE = 640
"""Longest side of a picture, in pixels."""
_QUALITY = 80
_MEDIA_TYPE = "application/vnd.dad-edge.live"


class Live:
    """Draws every frame once, however many look at it, and none if nobody does."""

    media_type = _MEDIA_TYPE

    def __init__(self, control: LineControl) -> None:
        self._control = control
        self._drawing = threading.Lock()
        self._drawn: dict[tuple[str, Look], tuple[str, bytes]] = {}
        self._messages: dict[tuple[str, Look], tuple[str, bytes]] = {}
        self._state, self._state_at = b"", -STATE_S
        self._newest: list[Judged] = []
        self._looked_at = -STATE_S
        self.viewers = 0

    def state(self) -> dict[str, Any]:
        """The line as plain values for JSON."""
        control = self._control
        return {
            "name": control.name,
            "run": control.run,
            "cameras": [_plain(asdict(camera)) for camera in control.cameras()],
            "sinks": [_plain(asdict(sink)) for sink in control.sinks()],
            "events": [record_of_event(event) for event in control.events()[-100:]],
        }

    def picture(self, judged: Judged, look: Look) -> bytes:
        """A judged frame as JPEG, `SIDE` pixels at most."""
        key = (judged.camera, look)
        with self._drawing:
            found = self._drawn.get(key)
            if found is None or found[0] != judged.id:
                found = self._drawn[key] = (judged.id, _jpeg(judged, look))
        return found[1]

    async def messages(self, look: Look) -> AsyncIterator[bytes]:
        """Frames and states for one browser, for as long as it reads; see `message`.

        A browser that is slow misses frames: the newest one is taken when it is ready for it.
        """
        self.viewers += 1
        try:
            shown: dict[str, str] = {}
            state = b""
            while True:
                self._look()
                if state is not self._state:
                    state = self._state
                    yield state
                for judged in self._newest:
                    if shown.get(judged.camera) != judged.id:
                        shown[judged.camera] = judged.id
                        yield await self._frame(judged, look)
                await asyncio.sleep(1 / MOST_FPS)
        finally:
            self.viewers -= 1

    def _look(self) -> None:
        """Look at the line, once for all viewers."""
        now = time.monotonic()
        if now - self._state_at >= STATE_S:
            self._state_at = now
            self._state = message({"message": "state", **self.state()})
        if now - self._looked_at >= 1 / MOST_FPS:
            self._looked_at = now
            latest = (self._control.latest(camera.name) for camera in self._control.cameras())
            self._newest = [judged for judged in latest if judged is not None]

    async def _frame(self, judged: Judged, look: Look) -> bytes:
        """The message of a frame, made once for all viewers."""
        key = (judged.camera, look)
        found = self._messages.get(key)
        if found is None or found[0] != judged.id:
            drawn = await asyncio.to_thread(self.picture, judged, look)
            made = message({"message": "frame", **record_of(judged)}, drawn)
            found = self._messages[key] = (judged.id, made)
        return found[1]


def message(header: dict[str, Any], content: bytes = b"") -> bytes:
    """Lengths of header and content as two little-endian 32-bit numbers, then both."""
    text = json.dumps(header, ensure_ascii=False).encode()
    return struct.pack("<II", len(text), len(content)) + text + content


def _jpeg(judged: Judged, look: Look) -> bytes:
    frame, inspection = judged.result.frame.image, judged.result.inspection
    scale = min(1.0, SIDE / max(frame.shape[:2]))
    size = (max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale)))
    picture: Picture = np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
    if look == "heat":
        picture = heat_overlay(picture, inspection.heat)
    elif look == "outline":
        picture = outline(picture, inspection.score_map, judged.threshold)
    done, content = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    assert done
    return content.tobytes()


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Times as text."""
    return {
        key: value.isoformat() if isinstance(value, datetime) else value
        for key, value in values.items()
    }
