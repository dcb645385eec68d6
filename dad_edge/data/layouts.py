"""Where images, kinds and masks lie in a data set, as one table."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from dad_edge.config import GOOD
from dad_edge.data.folder import (
    TRUTH_FOLDERS,
    Masks,
    folders_at,
    images_in,
    key,
    say_left_out,
)
from dad_edge.data.listing import Item, Split, csv_items, kind_of, visa_items
from dad_edge.errors import DataError
from dad_edge.image.masks import read_mask

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Layout:
    """How one family of data sets is laid out; names are compared as `dad_edge.data.folder` does.

    A mask has its image's stem, with or without `_mask`, `_gt` or `_label`, and any image suffix.
    A folder of that stem holds several masks of one image (MVTec LOCO).
    """

    name: str
    train_good: tuple[str, ...]
    """Folders of normal images, relative to the data set; the first that exists identifies the
    layout."""
    test: tuple[str, ...]
    """Patterns of the folders of test images; the last part is the kind."""
    masks: tuple[str, ...]
    """Folders where the masks of a kind may lie, besides its own; `{kind}` stands for its name."""
    marked_is_defect: bool = False
    """Whether an image is defective where it has a mask, whatever its folder."""


TRUTH = tuple(
    pattern.format(folder, kind="{kind}")
    for pattern in ("{}/{kind}", "test/{}/{kind}", "test/{kind}/{}", "test/{}", "{}")
    for folder in TRUTH_FOLDERS
)
BAD = (
    *("bad*", "ng", "nok", "fail", "failed", "defect", "defects", "defective"),
    *("anomaly", "anomalies", "anomalous", "abnormal", "reject", "rejects", "rejected"),
)
TWO_FOLDERS = Layout(
    "good and bad folders",
    ("good", "ok", "normal", "pass"),
    (*BAD, "test/good", "test/ok", "test/normal", "good_test"),
    TRUTH,
)
MVTEC = Layout("MVTec AD", ("train/good", "train/normal"), ("test/*",), TRUTH)
VISA = Layout("VisA", ("Data/Images/Normal",), (), ())
KOLEKTOR = Layout("Kolektor SDD", ("kos01",), (), ())
CSV = Layout("CSV of paths", (), (), ())
LAYOUTS = (
    MVTEC,
    Layout("BTAD", ("train/ok",), ("test/*",), TRUTH),
    Layout("DAGM 2007", ("Train",), ("Test",), ("{kind}/Label",), True),
    VISA,
    TWO_FOLDERS,
    Layout("folder of good images", (".",), (), ()),
)
HELD_OUT = 5
"""One in this many good images of two folders is kept for the test split, if it has no others."""


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
    if any(images_in(folder) for folder in _test_folders(root, MVTEC)):
        return MVTEC  # test images alone, for a model that is there
    classes = [p.name for p in sorted(root.iterdir()) if p.is_dir() and _is_class(p)]
    if classes:
        raise DataError(
            f"{root} is no data set itself, but holds: {', '.join(classes)}.",
            f"choose one of them, such as --data {root / classes[0]}",
        )
    names = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
    raise DataError(
        f"{root} has no images where a known layout has them; it holds: {names}.",
        "put images of good parts in train/good (and test images in test/<kind>), "
        "in good/, or straight into the folder",
    )


def _is_class(folder: Path) -> bool:
    """Whether a folder is a data set by itself; a folder of images or a split is not."""
    return folder.name.lower() not in ("train", "test") and any(
        _fits(folder, layout) for layout in LAYOUTS[:-1]
    )


def _fits(root: Path, layout: Layout) -> bool:
    """Whether there are good images, and labels where only these tell good from bad."""
    folder = _train_folder(root, layout)
    return folder is not None and (
        not layout.marked_is_defect or any(images_in(f) for f in folders_at(folder, "Label"))
    )


def _train_folder(root: Path, layout: Layout) -> Path | None:
    """The first folder of normal images that has any."""
    folders = (folder for pattern in layout.train_good for folder in folders_at(root, pattern))
    return next((folder for folder in folders if images_in(folder)), None)


def list_items(root: Path, split: Split) -> list[Item]:
    """Images of a split; a warning names pictures below the folder that no split reads.

    Folders called good, ok, normal or the like hold good parts, in any case of letters.

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
    else:
        parts = {"train": _train_items(root, layout), "test": _test_items(root, layout)}
        items = parts[split]
        _say(root, items, [item for part in parts.values() for item in part])
    if not items:
        images = "normal" if split == "train" else "test"
        place = f"train/{GOOD}" if split == "train" else f"test/<kind>, normal ones in test/{GOOD}"
        raise DataError(
            f"{root} has no {images} images.",
            f"name them in the table, with '{split}' in its column 'split'"
            if layout in (CSV, VISA)
            else f"put them in {place}",
        )
    return items


def _say(root: Path, items: Sequence[Item], everything: Sequence[Item]) -> None:
    """Warn of files that are left out, and of images that share a mask."""
    masks = [item.mask for item in everything if item.mask]
    say_left_out(root, {item.path for item in everything} | set(masks))
    owners: dict[Path, Item] = {}
    for item in items:
        if item.mask and (first := owners.setdefault(item.mask, item)) is not item:
            _log.warning("%s and %s share the mask %s.", first.path, item.path, item.mask)


def _items_in(root: Path, layout: Layout, folder: Path) -> Iterable[Item]:
    kind = kind_of(folder.name)
    places = [place for p in layout.masks for place in folders_at(root, p, folder.name)]
    masks = Masks(places, folder)
    for path in images_in(folder):
        mask = None if kind == GOOD else masks.of(path)
        if layout.marked_is_defect:
            yield Item(path, "defect" if mask else GOOD, mask)
        else:
            yield Item(path, kind, mask)


def _train_items(root: Path, layout: Layout) -> list[Item]:
    folder = _train_folder(root, layout)
    if folder is None:
        return []
    if layout.marked_is_defect:
        return [item for item in _items_in(root, layout, folder) if item.kind == GOOD]
    held_out = _held_out(root, layout)
    return [Item(path, GOOD, None) for path in images_in(folder) if path not in held_out]


def _held_out(root: Path, layout: Layout) -> list[Path]:
    """Good images of two folders that belong to the test split alone: every fifth."""
    if layout is not TWO_FOLDERS:
        return []
    kinds = [kind_of(f.name) for f in _test_folders(root, layout) if images_in(f)]
    if GOOD in kinds or not kinds:
        return []
    folder = _train_folder(root, layout)
    return images_in(folder)[HELD_OUT - 1 :: HELD_OUT] if folder else []


def _test_folders(root: Path, layout: Layout) -> list[Path]:
    folders = (folder for pattern in layout.test for folder in folders_at(root, pattern))
    return [folder for folder in folders if key(folder.name) not in TRUTH_FOLDERS]


def _test_items(root: Path, layout: Layout) -> list[Item]:
    folders = _test_folders(root, layout)
    items = [item for folder in folders for item in _items_in(root, layout, folder)]
    items += [Item(path, GOOD, None) for path in _held_out(root, layout)]
    names = Counter(item.name for item in items)
    return [  # test/good/0.png and test/OK/0.png
        replace(item, label=f"{item.path.parent.name}_{item.path.name}")
        if names[item.name] > 1
        else item
        for item in items
    ]


def _kolektor_items(root: Path, split: Split) -> list[Item]:
    """Items of Kolektor SDD: a part is defective where its label marks a pixel.

    The data set has no split of its own. Its test split is made of all defects, and of the good
    images of every third part.
    """
    items = []
    for index, folder in enumerate(_kolektor_parts(root)):
        for path in images_in(folder):
            label = path.with_name(f"{path.stem}_label.bmp")
            if path.stem.endswith("_label"):
                continue
            if not label.is_file():
                raise DataError(f"{path} has no label {label.name}.", "copy the data set again")
            marked = bool(read_mask(label).any())
            if split == ("test" if marked or index % 3 == 2 else "train"):
                kind, mask = ("defect", label) if marked else (GOOD, None)
                items.append(Item(path, kind, mask, f"{folder.name}_{path.name}"))
    return items


def _kolektor_parts(root: Path) -> list[Path]:
    return sorted({label.parent for label in root.glob("kos*/*_label.bmp")})
