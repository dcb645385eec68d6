"""Where images, kinds and masks lie in a data set: one table, not a class each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dad_edge.config import GOOD
from dad_edge.data.listing import Item, Split, csv_items, visa_items
from dad_edge.errors import DataError
from dad_edge.image.preprocess import IMAGE_SUFFIXES, read_frame


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of data sets is laid out; `{kind}` and `{stem}` stand for names."""

    name: str
    train_good: str
    """Folder of normal images, relative to the data set; it identifies the layout."""
    test: tuple[str, ...]
    """Patterns of the folders of test images; the last part is the kind."""
    masks: tuple[str, ...]
    """Places where the mask of an image of a folder may lie, with any image suffix."""
    marked_is_defect: bool = False
    """Whether an image is defective where it has a mask, whatever its folder."""


TWO_FOLDERS = Layout("good and bad folders", "good", ("bad*", "test/good", "good_test"), ())
VISA = Layout("VisA", "Data/Images/Normal", (), ())
KOLEKTOR = Layout("Kolektor SDD", "kos01", (), ())
CSV = Layout("CSV of paths", "", (), ())
LAYOUTS = (
    Layout(
        "MVTec AD",
        "train/good",
        ("test/*",),
        ("ground_truth/{kind}/{stem}_mask", "ground_truth/{kind}/{stem}"),
    ),
    Layout("BTAD", "train/ok", ("test/*",), ("ground_truth/{kind}/{stem}",)),
    Layout("DAGM 2007", "Train", ("Test",), ("{kind}/Label/{stem}_label",), True),
    VISA,
    TWO_FOLDERS,
    Layout("folder of good images", ".", (), ()),
)
GOOD_FOLDERS = (GOOD, "ok", "good_test")
HELD_OUT = 5
"""Every how many-th image of two folders is kept for the test split, if no other good one is."""


def find_layout(root: Path) -> Layout:
    """Recognise the layout of a data set.

    Raises:
        DataError: the folder is missing, is a file, or holds no images where a layout has them.
    """
    if not root.exists():
        raise DataError(f"data folder {root} does not exist.", "check the path given to --data")
    if root.suffix.lower() == ".csv" and root.is_file():
        return CSV
    if not root.is_dir():
        raise DataError(
            f"{root} is a file, not a folder.", "give the folder of the data set, or a .csv file"
        )
    for layout in LAYOUTS:
        if _fits(root, layout):
            return layout
    if _kolektor_parts(root):
        return KOLEKTOR
    classes = [p.name for p in sorted(root.iterdir()) if p.is_dir() and _is_class(p)]
    if classes:
        raise DataError(
            f"{root} holds several classes: {', '.join(classes)}.",
            f"choose one of them, such as --data {root / classes[0]}",
        )
    found = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{root} has no images where a known layout has them; it holds: {found}.",
        "put images of good parts in train/good (and test images in test/<kind>), "
        "in good/, or straight into the folder",
    )


def _is_class(folder: Path) -> bool:
    """Whether a folder is a data set by itself; a folder of images or a split is not."""
    return folder.name.lower() not in ("train", "test") and any(
        _fits(folder, layout) for layout in LAYOUTS[:-1]
    )


def _fits(root: Path, layout: Layout) -> bool:
    """Whether good images are there, and the labels where only they tell good from bad."""
    folder = root / layout.train_good
    return bool(images_in(folder)) and (
        not layout.marked_is_defect or images_in(folder / "Label") != []
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
    if layout is VISA:
        items = visa_items(root, split)
    elif layout is CSV:
        items = csv_items(root, split)
    elif layout is KOLEKTOR:
        items = _kolektor_items(root, split)
    elif split == "train":
        items = _train_items(root, layout)
    else:
        items = list(_test_items(root, layout))
    if not items:
        images = "normal" if split == "train" else "test"
        raise DataError(
            f"{root} has no {images} images.",
            "put them in test/<kind>, normal ones in test/good",
        )
    return items


def _items_in(root: Path, layout: Layout, folder: Path) -> Iterable[Item]:
    for path in images_in(folder):
        if layout.marked_is_defect:
            mask = _mask_of(root, layout, folder.name, path)
            yield Item(path, "defect" if mask else GOOD, mask)
        elif folder.name in GOOD_FOLDERS:
            yield Item(path, GOOD, None)
        else:
            yield Item(path, folder.name, _mask_of(root, layout, folder.name, path))


def _train_items(root: Path, layout: Layout) -> list[Item]:
    if layout.marked_is_defect:
        items = _items_in(root, layout, root / layout.train_good)
        return [item for item in items if item.kind == GOOD]
    paths = images_in(root / layout.train_good)
    held = _held_out(root, layout)
    return [Item(path, GOOD, None) for path in paths if path not in held]


def _held_out(root: Path, layout: Layout) -> list[Path]:
    """Good images of two folders that only the test split shows: every fifth."""
    if layout is not TWO_FOLDERS:
        return []
    kept = images_in(root / "test" / "good") or images_in(root / "good_test")
    bad = any(images_in(folder) for folder in root.glob("bad*"))
    return images_in(root / layout.train_good)[HELD_OUT - 1 :: HELD_OUT] if bad and not kept else []


def _test_items(root: Path, layout: Layout) -> Iterable[Item]:
    for pattern in layout.test:
        for folder in sorted(root.glob(pattern)):
            yield from _items_in(root, layout, folder)
    for path in _held_out(root, layout):
        yield Item(path, GOOD, None)


def _kolektor_items(root: Path, split: Split) -> list[Item]:
    """Items of Kolektor SDD: a part is defective where its label marks a pixel.

    The data set has no split of its own: all defects, and the good images of every third part, are
    for the test.
    """
    items = []
    for index, folder in enumerate(_kolektor_parts(root)):
        for path in images_in(folder):
            label = path.with_name(f"{path.stem}_label.bmp")
            if path.stem.endswith("_label"):
                continue
            if not label.is_file():
                raise DataError(f"{path} has no label {label.name}.", "copy the data set again")
            marked = bool(read_frame(label).any())
            if split == ("test" if marked or index % 3 == 2 else "train"):
                kind, mask = ("defect", label) if marked else (GOOD, None)
                items.append(Item(path, kind, mask, f"{folder.name}_{path.name}"))
    return items


def _kolektor_parts(root: Path) -> list[Path]:
    return sorted({label.parent for label in root.glob("kos*/*_label.bmp")})


def _mask_of(root: Path, layout: Layout, kind: str, image: Path) -> Path | None:
    for pattern in layout.masks:
        base = root / pattern.format(kind=kind, stem=image.stem)
        for suffix in IMAGE_SUFFIXES:
            for spelling in (suffix, suffix.upper()):
                if (candidate := base.with_name(base.name + spelling)).is_file():
                    return candidate
    return None
