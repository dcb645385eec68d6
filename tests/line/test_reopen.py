from __future__ import annotations

import pytest

from dad_edge.line.reopen import FIRST_S, LONGEST_S, Backoff, lasts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (0, True),
        ("/dev/video2", True),
        ("camera://0", True),
        ("RTSP://host/x", True),
        ("https://host/x.m3u8", True),
        ("demo://", False),
        ("file:///data/a.mp4", False),
        ("a.mp4", False),
        ("parts", False),
    ],
)
def test_cameras_and_streams_last_and_files_end(source: str | int, expected: bool) -> None:
    assert lasts(source) is expected


def test_pauses_double_up_to_a_limit_and_begin_anew() -> None:
    backoff = Backoff()
    pauses = [backoff.next_s() for _ in range(40)]
    for tries, pause_s in enumerate(pauses):
        most = min(LONGEST_S, FIRST_S * 2**tries)
        assert 0.75 * most <= pause_s <= most
    backoff.reset()
    assert backoff.next_s() <= FIRST_S
