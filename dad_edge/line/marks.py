"""Parts that people marked on the page, as a data set for `calibrate` and `train`."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from dad_edge.config import GOOD
from dad_edge.errors import DataError, writing
from dad_edge.line.sinks.flagged import FOLDER, FRAME, picture_of
from dad_edge.line.sinks.store import DATABASE, ResultStore

DEFECT = "defect"
_PAGE = 1000


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of the marked parts."""

    fine: int
    """Pictures in `train/good`."""
    defects: int
    """Pictures in `test/defect`."""
    new: int
    """Of them, those that were not there before."""
    gone: int
    """Marked parts whose picture the ring has dropped already."""


def export_marks(results: Path, out: Path) -> Exported:
    """Copy the marked parts into a data set in MVTec's layout.

    Parts that were fine go to `train/good`, defects to `test/defect`. What is there stays, and what
    was exported before is not copied again, so that the command may run as often as one likes. A
    part whose mark has changed moves.

    Args:
        results: folder of a line.
        out: folder of the data set; made if it is missing.

    Raises:
        DataError: no line keeps its results there, or nothing is marked.
        StorageError: the data set cannot be written.
    """
    if not (results / DATABASE).is_file():
        raise DataError(
            f"{results} holds no results of a line.", "name the folder that line.toml names"
        )
    places = {"fine": out / "train" / GOOD, "defect": out / "test" / DEFECT}
    counts = {"fine": 0, "defect": 0}
    new = gone = 0
    for part, mark in _marked(ResultStore(results / DATABASE)):
        source = picture_of(results / FOLDER, part, FRAME)
        target = places[mark] / f"{part}.png"
        other = places["defect" if mark == "fine" else "fine"] / target.name
        if other.exists() and not target.exists():
            with writing(target):
                target.parent.mkdir(parents=True, exist_ok=True)
                other.rename(target)
            new += 1
        elif not target.exists():
            if source is None:
                gone += 1
                continue
            _copy(source, target)
            new += 1
        counts[mark] += 1
    if not sum(counts.values()) and not gone:
        raise DataError(
            f"no part in {results} is marked.", "open the page and mark flagged parts (F and D)"
        )
    return Exported(counts["fine"], counts["defect"], new, gone)


def _marked(store: ResultStore) -> list[tuple[str, str]]:
    """Ids and marks of all marked parts."""
    found: list[tuple[str, str]] = []
    before = ""
    while parts := store.parts(mark="any", before=before, most=_PAGE):
        found += [(part.id, part.mark) for part in parts if part.mark is not None]
        before = parts[-1].id
    return found


def _copy(source: Path, target: Path) -> None:
    """Copy a picture so that nobody sees half of it."""
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_name(f".{target.name}")
        shutil.copyfile(source, draft)
        draft.replace(target)
