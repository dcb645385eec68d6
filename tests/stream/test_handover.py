from __future__ import annotations

import threading
import time

from dad_edge.stream.handover import Handover

PATIENCE_S = 120.0
"""For another thread of a busy machine; what is waited for always comes."""


def test_a_full_queue_makes_the_giver_wait_and_loses_nothing() -> None:
    queue: Handover[int] = Handover(2)
    giver = threading.Thread(target=lambda: [queue.put(n) for n in range(20)])
    giver.start()
    time.sleep(0.02)
    assert giver.is_alive()
    assert [queue.get(PATIENCE_S) for _ in range(20)] == list(range(20))
    giver.join(PATIENCE_S)
    assert queue.dropped == 0


def test_newest_only_drops_and_counts_the_older_ones() -> None:
    queue: Handover[int] = Handover(4, newest_only=True)
    for number in range(5):
        assert queue.put(number)
    assert queue.get(0.1) == 4
    assert queue.dropped == 4


def test_what_is_to_be_kept_is_never_dropped_and_drops_nothing() -> None:
    queue: Handover[str] = Handover(4, newest_only=True)
    for item in ("frame 0", "error 1", "frame 2", "error 3", "frame 4"):
        queue.put(item, keep=item.startswith("error"))
    assert [queue.get(0.1) for _ in range(3)] == ["error 1", "error 3", "frame 4"]
    assert queue.dropped == 2


def test_the_end_lets_the_giver_go_and_keeps_what_was_given() -> None:
    queue: Handover[int] = Handover(1)
    queue.put(1)
    answers: list[bool] = []
    giver = threading.Thread(target=lambda: answers.append(queue.put(2)))
    giver.start()
    error = OSError("unplugged")
    queue.end(error)
    queue.end(ValueError("later"))
    giver.join(PATIENCE_S)
    assert answers == [False]
    assert not queue.finished()
    assert queue.get(0.1) == 1
    assert queue.finished()
    assert queue.error is error


def test_waiting_for_an_item_ends_in_time() -> None:
    queue: Handover[int] = Handover(1)
    assert queue.get(0.02) is None
    assert not queue.finished()
