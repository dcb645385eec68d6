from __future__ import annotations

import pytest

from dad_edge.errors import DeviceError
from dad_edge.line import posted
from dad_edge.line.posted import Posted
from dad_edge.stream.frames import Unreadable


def test_a_picture_that_breaks_the_reader_does_not_end_the_source(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr("dad_edge.stream.paths.read_frame", fail)
    source = Posted()
    for _ in range(2):
        with pytest.raises(DeviceError, match="no verdict"):
            source.inspect(b"picture", 0.0)
    frames = source.open("post://", None).frames
    for name in ("post-000000001", "post-000000002"):
        missing = next(frames)
        assert isinstance(missing, Unreadable)
        assert missing.name == name
        assert "MemoryError" in missing.error.message
        source.failed(missing)  # nobody waits for it any more


def test_a_full_queue_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Posted()
    for _ in range(posted.MOST_WAITING):
        with pytest.raises(DeviceError, match="no verdict"):
            source.inspect(b"picture", 0.0)
    with pytest.raises(DeviceError, match="wait already"):
        source.inspect(b"picture", 60.0)
