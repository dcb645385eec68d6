from __future__ import annotations

import threading
from datetime import datetime, timezone

import numpy as np

from dad_edge.line.intake import MAX_AGE_S, READ_AHEAD, Intake, Waiting
from dad_edge.stream.frames import Frame

PATIENCE_S = 60.0
IMAGE = np.zeros((2, 2, 3), np.uint8)


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


def item(camera: str, index: int, *, live: bool = True, read_at: float = 100.0) -> Waiting:
    frame = Frame(IMAGE, f"{camera}{index}", index, datetime.now(timezone.utc))
    return Waiting(camera, frame, read_at, live)


def names(taken: list[Waiting]) -> list[str]:
    return [waiting.frame.name for waiting in taken]


def test_a_live_camera_keeps_its_newest_frame_and_counts_the_others() -> None:
    intake = Intake(["a", "b"], Clock())
    for index in range(5):
        assert intake.put(item("a", index))
    assert names(intake.take(4, 0, 0)) == ["a4"]
    assert (intake.dropped("a"), intake.dropped("b")) == (4, 0)
    assert intake.left("a", 0), "what was taken is not answered yet"
    assert not intake.left("a", 1)
    assert intake.take(4, 0, 0) == []
    intake.put(item("a", 5))
    assert intake.left("a", 1)


def test_who_was_served_longest_ago_comes_first() -> None:
    intake = Intake(["a", "b", "c"], Clock())
    served = []
    for index in range(9):
        for camera in "abc":
            intake.put(item(camera, index))
        served += [waiting.camera for waiting in intake.take(1, 0, 0)]
    assert served == list("abcabcabc")
    intake.put(item("a", 10))
    assert names(intake.take(1, 0, 0)) == ["a10"], "a camera alone is served at once"


def test_a_batch_holds_at_most_one_frame_of_each_camera() -> None:
    intake = Intake(["a", "b", "c"], Clock())
    for camera in "ab":
        for index in range(READ_AHEAD):
            intake.put(item(camera, index, live=False))
    assert names(intake.take(3, 0, 0)) == ["a0", "b0"]
    assert names(intake.take(1, 0, 0)) == ["a1"]
    assert names(intake.take(3, 0, 0)) == ["b1"]


def test_a_file_waits_for_room_and_loses_nothing() -> None:
    intake = Intake(["a", "b"], Clock())
    count = 20

    def read() -> None:
        for index in range(count):
            assert intake.put(item("a", index, live=False))

    reader = threading.Thread(target=read)
    reader.start()
    taken: list[str] = []
    while len(taken) < count:
        taken += names(intake.take(2, PATIENCE_S, 0))
    reader.join(PATIENCE_S)
    assert taken == [f"a{index}" for index in range(count)]
    assert intake.dropped("a") == 0


def test_a_full_place_of_one_camera_stops_no_other() -> None:
    intake = Intake(["file", "live"], Clock())
    for index in range(READ_AHEAD):
        intake.put(item("file", index, live=False))
    blocked = threading.Thread(target=intake.put, args=(item("file", 9, live=False),))
    blocked.start()
    assert intake.put(item("live", 0))
    intake.close()
    blocked.join(PATIENCE_S)
    assert not blocked.is_alive()
    assert not intake.put(item("live", 1))
    assert intake.take(2, PATIENCE_S, 0) == []


def test_a_live_frame_that_waited_too_long_is_dropped() -> None:
    clock = Clock()
    intake = Intake(["a", "b"], clock)
    intake.put(item("a", 0))
    intake.put(item("b", 0, live=False))
    clock.seconds += MAX_AGE_S + 0.01
    assert names(intake.take(2, 0, 0)) == ["b0"]
    assert (intake.dropped("a"), intake.dropped("b")) == (1, 0)


def test_a_paused_camera_is_not_taken_from_and_goes_on_with_its_newest_frame() -> None:
    intake = Intake(["a", "b"], Clock())
    intake.pause("a", True)
    for index in range(3):
        intake.put(item("a", index))
    intake.put(item("b", 0))
    assert names(intake.take(2, 0, 0)) == ["b0"]
    intake.pause("a", False)
    assert names(intake.take(2, 0, 0)) == ["a2"]
    assert intake.dropped("a") == 0, "what nobody wanted was not dropped"


def test_a_batch_waits_for_the_other_cameras_until_they_are_all_there() -> None:
    intake = Intake(["a", "b", "idle"])
    intake.pause("idle", True)
    now = intake._clock()
    intake.put(item("a", 0, read_at=now))
    other = threading.Timer(0.05, intake.put, [item("b", 0, read_at=now)])
    other.start()
    assert sorted(names(intake.take(3, 0, PATIENCE_S))) == ["a0", "b0"]
    other.join()


def test_a_batch_goes_without_cameras_that_have_nothing_in_time() -> None:
    intake = Intake(["a", "dead"], Clock())
    intake.put(item("a", 0))
    assert names(intake.take(2, 0, 0.01)) == ["a0"]


def test_frames_of_files_can_be_left_where_they_are() -> None:
    intake = Intake(["file", "live"], Clock())
    intake.put(item("file", 0, live=False))
    assert intake.take(2, 0, live_only=True) == []
    intake.put(item("live", 0))
    assert names(intake.take(2, 0, live_only=True)) == ["live0"]
    assert names(intake.take(2, 0)) == ["file0"]


def test_a_wait_can_be_ended_by_another_thing_than_a_frame() -> None:
    intake = Intake(["a"])
    done = threading.Event()

    def finish() -> None:
        done.set()
        intake.nudge()

    threading.Timer(0.05, finish).start()
    assert intake.take(1, PATIENCE_S, until=done.is_set) == []
    assert done.is_set()
