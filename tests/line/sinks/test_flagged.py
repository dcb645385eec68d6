from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pytest
from judged_frames import RUN, judged

from dad_edge.errors import StorageError
from dad_edge.line.settings import FlaggedSettings
from dad_edge.line.sinks.flagged import FRAME, MAP, MAP_SCALE, RECORD, VIEW, FlaggedRing, picture_of


class Disk(NamedTuple):
    total: int
    used: int
    free: int


def ids(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_part_is_kept_as_it_came_with_its_scores(tmp_path: Path) -> None:
    ring = FlaggedRing(tmp_path, FlaggedSettings())
    part = judged(1, score=0.75)
    ring.write(part)
    folder = tmp_path / part.id
    assert np.array_equal(cv2.imread(str(folder / FRAME)), part.result.frame.image)
    scores = cv2.imread(str(folder / MAP), cv2.IMREAD_UNCHANGED)
    assert scores.dtype == np.uint16
    np.testing.assert_allclose(scores / MAP_SCALE, 0.75, atol=1e-5)
    assert cv2.imread(str(folder / VIEW)).shape == part.result.frame.image.shape
    assert json.loads((folder / RECORD).read_text())["score"] == 0.75


@pytest.mark.parametrize(("score", "verdict", "wanted"), [
    (0.1, "good", False), (0.9, "defect", True), (0.1, "invalid", True)
])  # fmt: skip
def test_all_that_is_not_good_is_wanted(
    tmp_path: Path, score: float, verdict: str, wanted: bool
) -> None:
    ring = FlaggedRing(tmp_path, FlaggedSettings())
    assert ring.wants(judged(1, score=score, verdict=verdict)) == wanted  # type: ignore[arg-type]


def test_scores_that_are_no_numbers_can_be_kept(tmp_path: Path) -> None:
    FlaggedRing(tmp_path, FlaggedSettings()).write(judged(1, score=float("nan"), verdict="invalid"))
    assert ids(tmp_path) == [f"{RUN}-000000001"]


def test_the_oldest_go_first_and_the_quota_holds_over_a_restart(tmp_path: Path) -> None:
    one = FlaggedRing(tmp_path, FlaggedSettings())
    one.write(judged(1, score=0.9, side=200))
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    quota = FlaggedSettings(gigabytes=3.5 * size / 1e9, free_gigabytes=0)
    for numbers in (range(2, 5), range(5, 9)):
        ring = FlaggedRing(tmp_path, quota)
        for number in numbers:
            ring.write(judged(number, score=0.9, side=200))
            used = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
            assert used <= quota.gigabytes * 1e9
    assert ids(tmp_path) == [f"{RUN}-00000000{number}" for number in (6, 7, 8)]


def test_the_disk_is_never_filled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = FlaggedRing(tmp_path, FlaggedSettings(free_gigabytes=1))
    for number in (1, 2):
        ring.write(judged(number, score=0.9))
    free = {0: 900_000_000, 1: 999_990_000, 2: 1_200_000_000}
    monkeypatch.setattr(
        shutil, "disk_usage", lambda _: Disk(10**12, 0, free[2 - len(ids(tmp_path))])
    )
    ring.write(judged(3, score=0.9))
    assert ids(tmp_path) == [f"{RUN}-000000003"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Disk(10**12, 0, 0))
    with pytest.raises(StorageError, match="no room"):
        ring.write(judged(4, score=0.9))
    assert ids(tmp_path) == []


def test_what_a_killed_run_left_half_is_removed_and_strangers_stay(tmp_path: Path) -> None:
    (tmp_path / ".part-abc").mkdir()
    (tmp_path / ".part-abc" / FRAME).write_bytes(b"half")
    (tmp_path / "notes.txt").write_text("mine")
    FlaggedRing(tmp_path, FlaggedSettings(gigabytes=0.0001))
    assert ids(tmp_path) == ["notes.txt"]


def test_writing_again_changes_nothing(tmp_path: Path) -> None:
    ring = FlaggedRing(tmp_path, FlaggedSettings())
    ring.write(judged(1, score=0.9))
    ring.write(judged(1, score=0.9))
    assert len(ids(tmp_path)) == 1


@pytest.mark.parametrize("part", ["..", "../secret", "/etc", "a-1/..", "", "a-1\0", "ä-1"])
def test_no_name_leads_out_of_the_ring(tmp_path: Path, part: str) -> None:
    (tmp_path / "flagged").mkdir()
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / FRAME).write_bytes(b"secret")
    assert picture_of(tmp_path / "flagged", part, FRAME) is None


def test_only_pictures_of_parts_are_found(tmp_path: Path) -> None:
    ring = FlaggedRing(tmp_path, FlaggedSettings())
    ring.write(judged(1, score=0.9))
    part = f"{RUN}-000000001"
    assert picture_of(tmp_path, part, VIEW) == tmp_path / part / VIEW
    assert picture_of(tmp_path, part, "other.png") is None
    (tmp_path / part / VIEW).unlink()
    (tmp_path / part / VIEW).symlink_to("/etc/passwd")
    assert picture_of(tmp_path, part, VIEW) is None
