from __future__ import annotations

import io
import threading
from pathlib import Path
from typing import cast

import cv2
import numpy as np
import pytest

from dad_edge.errors import DataError
from dad_edge.stream.frames import Frame, Unreadable
from dad_edge.stream.paths import paths_on_stdin, watched_folder
from dad_edge.stream.sources import open_source

POLL_S = 0.05


def picture(value: int) -> bytes:
    done, content = cv2.imencode(".png", np.full((16, 16, 3), value, np.uint8))
    assert done
    return content.tobytes()


def test_a_folder_gives_what_is_there_and_what_comes(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.png").write_bytes(picture(9))
    frames = watched_folder(tmp_path, poll_s=POLL_S).frames
    first = cast(Frame, next(frames))
    assert (first.name, first.index, int(first.image[0, 0, 0])) == ("a.png", 0, 1)
    (tmp_path / "later").mkdir()
    (tmp_path / "later" / "b.png").write_bytes(picture(2))
    assert next(frames).name == "later/b.png"
    (tmp_path / "a.png").write_bytes(picture(3) + b" ")
    again = cast(Frame, next(frames))
    assert (again.name, again.index, int(again.image[0, 0, 0])) == ("a.png", 2, 3)


def test_a_picture_that_is_still_being_copied_is_waited_for(tmp_path: Path) -> None:
    content = picture(7)
    frames = watched_folder(tmp_path, poll_s=POLL_S).frames
    stop = threading.Event()

    def copy() -> None:
        with (tmp_path / "slow.png").open("wb") as file:
            for byte in content:
                file.write(bytes([byte]))
                file.flush()
                stop.wait(0.01)  # well below the time between two looks
            file.flush()

    thread = threading.Thread(target=copy)
    thread.start()
    item = next(frames)
    thread.join()
    assert isinstance(item, Frame)
    assert int(item.image[0, 0, 0]) == 7


def test_a_damaged_picture_is_reported_and_the_next_one_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1)[:40])
    (tmp_path / "b.png").write_bytes(picture(2))
    frames = watched_folder(tmp_path, poll_s=POLL_S).frames
    items = {item.name: item for item in (next(frames), next(frames))}
    assert isinstance(items["a.png"], Unreadable)
    assert isinstance(items["b.png"], Frame)


def test_a_folder_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        watched_folder(tmp_path / "missing")


def test_a_folder_that_may_not_be_read_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may read everything
    with pytest.raises(DataError, match="may not be read"):
        watched_folder(tmp_path)


def test_paths_on_stdin(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(picture(1))
    lines = io.StringIO(
        f"{tmp_path / 'a.png'}\n\n{tmp_path / 'missing.png'}\r\n{tmp_path / 'a.png'}"
    )
    items = list(paths_on_stdin(lines=lines).frames)
    assert [item.index for item in items] == [0, 1, 2]
    assert [type(item) for item in items] == [Frame, Unreadable, Frame]


def test_how_users_name_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_source(f"watch://{tmp_path}").name == str(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO(""))
    source = open_source("-")
    assert source.name == "stdin"
    assert not source.live
    assert list(source.frames) == []
