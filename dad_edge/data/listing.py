"""Images that a table names, one a line: VisA's official split, and CSV files of the user."""

from __future__ import annotations

import csv
import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dad_edge.config import GOOD
from dad_edge.data.folder import existing, key
from dad_edge.errors import DataError, printable

Split = Literal["train", "test"]
_SEPARATORS = ",;\t"

VISA_SPLIT = Path("split_csv") / "1cls.csv"
VISA_COLUMNS = ("object", "split", "label", "image", "mask")
CSV_COLUMNS = ("path", "split", "kind")
GOOD_NAMES = (
    *(GOOD, "ok", "okay", "normal", "nominal", "goodtest", "testgood", "goodparts"),
    *("defectfree", "nodefect", "nodefects", "nondefective", "anomalyfree", "goods", "okfront"),
    *("pass", "passed", "healthy", "intact", "undamaged", "io", "i.o.", "gut", "bon"),
)
"""Names of the kind without defects, as `key` writes them."""


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set."""

    path: Path
    kind: str
    """`good`, or the name of the defect kind."""
    mask: Path | None
    """Ground-truth mask, or a folder of masks that make up one together, if there is one."""
    label: str = ""
    """Tells the image from others of its kind where files in several folders share names."""

    @property
    def name(self) -> str:
        """Short name, the same on every machine, and printable whatever the file is called."""
        return printable(f"{self.kind}/{self.label or self.path.name}")


def kind_of(name: str) -> str:
    """The kind that a folder or a table names; every name for parts without defects is `good`."""
    return GOOD if key(name) in GOOD_NAMES else printable(name)


def visa_items(root: Path, split: Split) -> list[Item]:
    """Items of one VisA object, by the data set's own one-class split.

    Raises:
        DataError: the split is missing or damaged, or names a file twice or one that is missing.
    """
    base = root.resolve().parent
    table = base / VISA_SPLIT
    if not table.is_file():
        raise DataError(
            f"cannot read {table}: there is no such file.",
            f"put {VISA_SPLIT.as_posix()} of the data set beside the objects",
        )
    items: dict[Path, Item] = {}
    for line, row in _rows(table, VISA_COLUMNS):
        if (row["object"], row["split"]) != (root.resolve().name, split):
            continue
        if row["label"] not in ("normal", "anomaly"):
            raise _bad_line(table, line, f"column 'label' is '{row['label']}'")
        kind = GOOD if row["label"] == "normal" else "anomaly"
        mask = existing(base / row["mask"]) if row["mask"] and kind != GOOD else None
        item = Item(existing(base / row["image"]), kind, mask)
        _add(items, item, split, table, line, ("image", "label"))
    return list(items.values())


def csv_items(table: Path, split: Split) -> list[Item]:
    """Items of a CSV file with the columns path, split, kind and, if there are masks, mask.

    Args:
        table: UTF-8, with commas, semicolons or tabs between the columns; paths in it are relative
            to its folder; `kind` is `good` or a defect's name.
        split: which rows, by their column `split`.

    Raises:
        DataError: the table cannot be read, a column or value is wrong, or a file is named twice
            or is missing.
    """
    items: dict[Path, Item] = {}
    for line, row in _rows(table, CSV_COLUMNS):
        named = row["split"].strip().lower()
        if named not in ("train", "test"):
            raise _bad_line(table, line, f"column 'split' is '{row['split']}', not train or test")
        for column in ("path", "kind"):
            if not row[column].strip():
                raise _bad_line(table, line, f"column '{column}' is empty")
        if named != split:
            continue
        mask = existing(table.parent / row["mask"]) if row.get("mask") else None
        label = Path(row["path"]).as_posix().replace("/", "_")
        item = Item(existing(table.parent / row["path"]), kind_of(row["kind"].strip()), mask, label)
        _add(items, item, split, table, line, ("path", "kind"))
    return list(items.values())


def _rows(table: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells of every row, each with these columns."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            head = file.readline()
            file.seek(0)
            separator = max(_SEPARATORS, key=head.count)
            reader = csv.DictReader(file, delimiter=separator, skipinitialspace=True)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            rows = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise DataError(f"cannot read {table}: {reason}.", "save it as UTF-8 CSV again") from error
    if lacking := [column for column in columns if column not in reader.fieldnames]:
        raise DataError(
            f"{table} lacks the column(s) {', '.join(lacking)}; its first line is "
            f"{reprlib.repr(head.strip())}.",
            f"write '{','.join(columns)}' into its first line, and a line for every image below",
        )
    for line, row in rows:
        for column in columns:
            if row.get(column) is None:
                raise _bad_line(table, line, f"column '{column}' is missing")
        yield line, row


def _add(
    items: dict[Path, Item],
    item: Item,
    split: Split,
    table: Path,
    line: int,
    columns: tuple[str, str],
) -> None:
    """Add an item if it is sound; `columns` are the columns of its path and its kind."""
    if split == "train" and item.kind != GOOD:
        raise _bad_line(table, line, f"column '{columns[1]}' puts an anomaly into the train split")
    for column, named in ((columns[0], item.path), ("mask", item.mask)):
        if named is not None and not named.is_file():
            raise _bad_line(table, line, f"column '{column}': there is no file {named}")
    if item.path in items:
        raise _bad_line(table, line, f"column '{columns[0]}' names {item.path} again")
    items[item.path] = item


def _bad_line(table: Path, line: int, problem: str) -> DataError:
    return DataError(f"{table}, line {line}: {problem}.", "correct the table or its files")
