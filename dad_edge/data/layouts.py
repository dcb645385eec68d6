"""Where images, kinds and masks lie in a data set: one table, not a class each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dad_edge.errors import DataError
from dad_edge.metrics import GOOD
from dad_edge.preprocess import IMAGE_SUFFIXES

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Item:
    """One image of a data set."""

    path: Path
    kind: str
    """`good`, or the name of the defect kind."""
    mask: Path | None
    """Ground-truth mask, where there is one."""

    @property
    def name(self) -> str:
        """Short name, the same on every machine."""
        return f"{self.kind}/{self.path.name}"


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of data sets is laid out; `{kind}` and `{stem}` stand for names."""

    name: str
    train_good: str
    """Folder of normal images, relative to the data set; it identifies the layout."""
    test: str
    """Pattern of the folders of test images; the last part is the kind."""
    masks: tuple[str, ...]
    """Places where the mask of a test image may lie, with any image suffix."""


LAYOUTS = (
    Layout(
        "MVTec AD",
        "train/good",
        "test/*",
        ("ground_truth/{kind}/{stem}_mask", "ground_truth/{kind}/{stem}"),
    ),
    Layout("good and bad folders", "good", "bad*", ()),
    Layout("folder of good images", ".", "", ()),
)


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a data set.

    Raises:
        DataError: the folder is missing, is a file, or holds no images where a layout has them.
    """
    if not root.exists():
        raise DataError(f"data folder {root} does not exist.", "check the path given to --data")
    if not root.is_dir():
        raise DataError(f"{root} is a file, not a folder.", "give the folder of the data set")
    for layout in LAYOUTS:
        if images_in(root / layout.train_good):
            return layout
    found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{root} has no images where a known layout has them; it holds: {found}.",
        "put images of good parts in train/good (and test images in test/<kind>), "
        "in good/, or straight into the folder",
    )


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder in the order of their names.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        if not folder.is_dir():
            return []
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise DataError(
            f"cannot read folder {folder}: {error.strerror}.", "check its permissions"
        ) from error
    return [p for p in entries if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")]


def list_items(root: Path, split: Split) -> list[Item]:
    """Images of a split.

    Args:
        root: folder of the data set.
        split: `train` gives normal images only; `test` gives all kinds.

    Raises:
        DataError: no layout fits, or the split has no images.
    """
    layout = find_layout(root)
    if split == "train":
        return [Item(path, GOOD, None) for path in images_in(root / layout.train_good)]
    items = list(_test_items(root, layout))
    if not items:
        raise DataError(
            f"{root} has no test images.", "put them in test/<kind>, normal ones in test/good"
        )
    return items


def _test_items(root: Path, layout: Layout) -> Iterable[Item]:
    folders = sorted(root.glob(layout.test)) if layout.test else []
    for folder in folders:
        kind = folder.name
        for path in images_in(folder):
            yield Item(path, kind, None if kind == GOOD else _mask_of(root, layout, kind, path))


def _mask_of(root: Path, layout: Layout, kind: str, image: Path) -> Path | None:
    for pattern in layout.masks:
        base = root / pattern.format(kind=kind, stem=image.stem)
        for suffix in IMAGE_SUFFIXES:
            if (candidate := base.with_name(base.name + suffix)).is_file():
                return candidate
    return None
