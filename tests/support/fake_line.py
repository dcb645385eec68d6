"""A line without engines: what the page shows of it is drawn, what the page does to it is kept."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone

import cv2
import numpy as np

from dad_edge.errors import UsageError
from dad_edge.line.seams import CameraState, Event, Judged, SinkState
from dad_edge.line.settings import SinksSettings
from dad_edge.line.sinks.open import Sinks, open_sinks
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame
from dad_edge.stream.results import Result

SIDE = (180, 240)


class FakeLine:
    """Implements `LineControl`; `inspect` takes the place of a camera and its engine."""

    name = "hall-2"
    run = "20260102T030405ab12"

    def __init__(self, folder, cameras: Sequence[str] = ("left", "right")) -> None:  # type: ignore[no-untyped-def]
        self._states = {
            name: CameraState(
                name=name, source=f"rtsp://{name}.example/stream", bundle="flange",
                class_name="flange", engine="openvino int8", online=True, paused=False,
                threshold=0.5, score_range=(0.0, 1.0), frames=0, dropped=0, unreadable=0,
                verdicts={"good": 0, "defect": 0, "invalid": 0}, fps=20.0, latency_ms=31.0,
                last_frame=None, drift="", error="",
            )
            for name in cameras
        }  # fmt: skip
        self._latest: dict[str, Judged] = {}
        self._events: list[Event] = []
        self._numbers = itertools.count(1)
        self._changed = threading.Condition()
        self.outlets: Sinks = open_sinks(SinksSettings(), folder, self.name, self._events.append)

    def inspect(self, camera: str, score: float | None = None) -> Judged | None:
        """Judge a drawn part; None while the camera is paused or offline."""
        state = self._states[camera]
        if state.paused or not state.online:
            return None
        number = next(self._numbers)
        rng = np.random.default_rng(number)
        score = float(rng.beta(2, 6)) if score is None else score
        verdict = "defect" if score > state.threshold else "good"
        at = datetime.now(timezone.utc)
        frame = Frame(_picture(rng, score > 0.5), f"{camera}-{number}.png", number, at, "scratch")
        heat = np.zeros(SIDE, np.uint8)
        if score > 0.5:
            cv2.circle(heat, (150, 70), 22, int(255 * score), -1)
            heat = np.asarray(cv2.GaussianBlur(heat, (0, 0), 6), np.uint8)
        empty = np.zeros((3, 0, 0), np.float32)
        score_map = np.asarray(heat / np.float32(255), np.float32)
        inspection = Inspection(score, verdict, score_map, heat, empty, empty, {})
        judged = Judged(
            f"{self.run}-{number:09d}", camera, Result(frame, inspection, 31.0, 1.0), verdict,
            None, verdict == "defect", state.threshold, state.engine,
        )  # fmt: skip
        with self._changed:
            state = self._states[camera]  # its threshold may have been set meanwhile
            counts = {**state.verdicts, verdict: state.verdicts[verdict] + 1}
            self._latest[camera] = judged
            self._states[camera] = replace(
                state, frames=state.frames + 1, verdicts=counts, last_frame=at
            )
            self._changed.notify_all()
        self.outlets.write(judged)
        return judged

    def set_online(self, camera: str, online: bool) -> None:
        """Take a camera away, or bring it back."""
        why = "" if online else "no frame for 5 s; trying again"
        self._states[camera] = replace(self._states[camera], online=online, error=why)
        kind = "online" if online else "offline"
        event = Event(kind, camera, datetime.now(timezone.utc), f"{camera} is {kind}.")
        self._events.append(event)
        self.outlets.event(event)

    def close(self) -> None:
        self.outlets.close()

    def cameras(self) -> Sequence[CameraState]:
        return list(self._states.values())

    def sinks(self) -> Sequence[SinkState]:
        return self.outlets.states()

    def events(self) -> Sequence[Event]:
        return list(self._events)

    def latest(self, camera: str) -> Judged | None:
        return self._latest.get(camera)

    def next(self, camera: str, after: str, timeout_s: float) -> Judged | None:
        until = time.monotonic() + timeout_s
        with self._changed:
            while (found := self._latest.get(camera)) is None or found.id == after:
                if not self._changed.wait(max(0.0, until - time.monotonic())):
                    return None
            return found

    def set_threshold(self, camera: str, value: float) -> float:
        if camera not in self._states:
            raise UsageError(f"there is no camera {camera!r}.", "name one of the line")
        if not 0 <= value <= 1:
            raise UsageError(f"{value} is no threshold.", "write a number from 0 to 1")
        with self._changed:
            before = self._states[camera].threshold
            for name, state in self._states.items():
                self._states[name] = replace(state, threshold=value)
        return before

    def pause(self, camera: str, paused: bool) -> None:
        if camera not in self._states:
            raise UsageError(f"there is no camera {camera!r}.", "name one of the line")
        self._states[camera] = replace(self._states[camera], paused=paused)


def _picture(rng: np.random.Generator, defect: bool) -> np.ndarray:
    picture = np.full((*SIDE, 3), (58, 52, 48), np.uint8)
    cv2.circle(picture, (120, 90), 70, (172, 168, 160), -1)
    cv2.circle(picture, (120, 90), 26, (70, 66, 62), -1)
    if defect:
        cv2.line(picture, (138, 58), (162, 84), (30, 30, 34), 4)
    grain = rng.normal(0, 4, picture.shape)
    return np.asarray(np.clip(picture + grain, 0, 255), np.uint8)
