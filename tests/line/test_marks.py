from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from judged_frames import RUN, judged

from dad_edge.data.layouts import list_items
from dad_edge.errors import DataError
from dad_edge.line.marks import Exported, export_marks
from dad_edge.line.settings import FlaggedSettings, StoreSettings
from dad_edge.line.sinks.flagged import FOLDER, FlaggedRing
from dad_edge.line.sinks.store import DATABASE, ResultStore, StoreSink


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    ring, sink = (
        FlaggedRing(folder / FOLDER, FlaggedSettings()),
        StoreSink(folder / DATABASE, StoreSettings()),
    )
    for number in range(1, 6):
        part = judged(number, score=0.9)
        ring.write(part)
        sink.write(part)
    sink.close()
    return folder


def part(number: int) -> str:
    return f"{RUN}-{number:09d}"


def mark(results: Path, **marks: int) -> None:
    store = ResultStore(results / DATABASE)
    for name, number in marks.items():
        store.mark(part(number), name)  # type: ignore[arg-type]


def test_marked_parts_become_a_data_set(results: Path, tmp_path: Path) -> None:
    mark(results, fine=1, defect=2)
    mark(results, fine=4)
    out = tmp_path / "data"
    assert export_marks(results, out) == Exported(fine=2, defects=1, new=3, gone=0)
    assert [item.path.stem for item in list_items(out, "train")] == [part(1), part(4)]
    assert {(item.kind, item.path.stem) for item in list_items(out, "test")} == {
        ("defect", part(2))
    }
    picture = cv2.imread(str(out / "train" / "good" / f"{part(1)}.png"))
    assert np.array_equal(picture, judged(1).result.frame.image)


def test_it_may_run_again_and_follows_a_mark_that_changes(results: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    mark(results, fine=1, defect=2)
    export_marks(results, out)
    (out / "train" / "good" / "mine.png").write_bytes(b"mine")
    mark(results, fine=2)
    shutil.rmtree(results / FOLDER)  # the ring went on
    assert export_marks(results, out) == Exported(fine=2, defects=0, new=1, gone=0)
    names = sorted(path.name for path in (out / "train" / "good").iterdir())
    assert names == [f"{part(1)}.png", f"{part(2)}.png", "mine.png"]
    mark(results, defect=3)
    assert export_marks(results, out).gone == 1


def test_more_marks_than_a_page(results: Path, tmp_path: Path,
                                monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setattr("dad_edge.line.marks._PAGE", 2)
    for number in range(1, 6):
        mark(results, fine=number)
    assert export_marks(results, tmp_path / "data").fine == 5


def test_nothing_to_export_is_said(results: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is marked"):
        export_marks(results, tmp_path / "data")
    with pytest.raises(DataError, match="no results"):
        export_marks(tmp_path / "elsewhere", tmp_path / "data")
    assert not (tmp_path / "data").exists()
