"""What lies in a folder: images, masks beside them, files of tools, and files that nothing reads.

Names are compared without regard to case, to spaces, hyphens and underscores, and to how accents
are encoded (NFC or NFD): a data set may have been copied between systems that differ in these.
"""

from __future__ import annotations

import logging
import os
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from dad_edge.errors import DataError
from dad_edge.image.header import READ

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp"),
    *(".jfif", ".jpe", ".pgm", ".ppm", ".pnm", ".pbm", ".dib"),
)
"""Suffixes of the files that are taken for images; their content tells what they are."""

TRUTH_FOLDERS = (
    *("groundtruth", "gt", "mask", "masks", "label", "labels"),
    *("annotation", "annotations", "segmentation", "segmentations"),
)
"""Folders that hold masks, as `key` writes their names."""

_TOOL_NAMES = (
    *("__macosx", "__pycache__", "@eadir", "@tmp", "#recycle", "#snapshot", "$recycle.bin"),
    *("lost+found", "system volume information", "thumbs.db", "desktop.ini"),
    *("cvs", "_gsdata_", "@recycle", "recycler", "node_modules"),
)
_OTHER_SUFFIXES = (
    *(".gif", ".avif", ".heic", ".heif", ".jp2", ".j2k", ".jxl", ".exr", ".hdr", ".pfm", ".pam"),
    *(".npy", ".npz", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".ico", ".tga"),
    *(".svg", ".mat", ".h5", ".dcm", ".nii", ".pcx", ".ras", ".sr", ".apng", ".xcf"),
    *(".mp4", ".avi", ".mkv", ".mov", ".zip", ".tar", ".gz", ".7z", ".rar"),
)
"""Files that may hold pictures, and are not read."""
_ENDING = r"mask|masks|gt|label|labels|ground[ _-]?truth|seg|segmentation|annotation"
_MASK_STEM = re.compile(
    rf"(?P<before>.+)[ ._-](?:{_ENDING})|(?:{_ENDING})[ ._-](?P<after>.+)", re.IGNORECASE
)
_DEEPEST = 5
_NAMED = 3

_log = logging.getLogger(__name__)


def fold(name: str) -> str:
    """A name without regard to case and to the encoding of accents."""
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def key(name: str) -> str:
    """A folder's name without regard to case, accents, spaces, hyphens and underscores."""
    return re.sub(r"[\s_-]", "", fold(name))


def is_of_tool(name: str) -> bool:
    """Whether a file or folder is hidden, or made by an operating system or a tool."""
    return name.startswith((".", "~$")) or name.casefold() in _TOOL_NAMES


def is_image(name: str) -> bool:
    """Whether a file's name is that of an image."""
    return os.path.splitext(name)[1].lower() in IMAGE_SUFFIXES and not is_of_tool(name)


def marked_stem(stem: str) -> str | None:
    """Stem of the image that a mask belongs to by its name; None for the name of another file."""
    if stem.isdecimal():
        return None
    match = _MASK_STEM.fullmatch(stem)
    return match and (match["before"] or match["after"])


def entries_of(folder: Path) -> list[Path]:
    """What lies in a folder in the order of names; nothing where it is not a folder.

    Raises:
        DataError: the folder cannot be read.
    """
    try:
        return sorted(folder.iterdir(), key=lambda p: p.name) if folder.is_dir() else []
    except OSError as error:
        raise DataError(
            f"cannot read folder {folder}: {error.strerror}.", "check its permissions"
        ) from error


def images_in(folder: Path) -> list[Path]:
    """Image files of a folder in the order of their names, without the masks beside them.

    Raises:
        DataError: the folder cannot be read.
    """
    return [folder / name for name in _split(path.name for path in entries_of(folder))[0]]


def _split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names of images, and of masks of images that are among them."""
    stems = {name: os.path.splitext(name)[0] for name in names if is_image(name)}
    known = {fold(stem) for stem in stems.values()}
    images: list[str] = []
    masks: list[str] = []
    for name, stem in stems.items():
        marked = marked_stem(stem)
        (images if marked is None or fold(marked) not in known else masks).append(name)
    return images, masks


def folders_at(root: Path, pattern: str, kind: str = "") -> list[Path]:
    """Folders below a root that a pattern names, in the order of names.

    Args:
        root: where it starts.
        pattern: names with `/` between them; `*` stands for any letters, `{kind}` for the kind.
        kind: name of a folder.
    """
    folders = [root]
    for part in pattern.split("/"):
        name = kind if part == "{kind}" else part
        folders = [folder for parent in folders for folder in _matching(parent, name, name != part)]
    return folders


def _matching(parent: Path, name: str, literally: bool) -> list[Path]:
    if name == ".":
        return [parent]
    pattern = fold(name) if "*" in name and not literally else None
    if pattern is None and (parent / name).is_dir():
        return [parent / name]

    def fits(path: Path) -> bool:
        if pattern is None:
            return key(path.name) == key(name)
        return fnmatchcase(fold(path.name), pattern)

    return [p for p in entries_of(parent) if fits(p) and not is_of_tool(p.name) and p.is_dir()]


def existing(path: Path) -> Path:
    """The path, with its accents encoded as they are on this disk."""
    forms: tuple[Literal["NFC", "NFD"], ...] = ("NFC", "NFD")
    for form in forms:
        if path.is_file():
            break
        other = Path(unicodedata.normalize(form, str(path)))
        path = other if other.is_file() else path
    return path


class Masks:
    """The masks of the images of a folder, each found by the stem of its image."""

    def __init__(self, folders: Sequence[Path], images: Path) -> None:
        """
        Args:
            folders: of masks; the first one that has a mask of an image counts.
            images: folder of the images, which may have masks beside them.
        """
        self._by_stem: dict[str, list[tuple[int, int, str, Path]]] = {}
        for place, folder in enumerate(folders):
            for path in entries_of(folder):
                if is_image(path.name):
                    stem = marked_stem(path.stem)
                    if stem is not None:
                        self._add(place, 0 if fold(path.stem).endswith("_mask") else 2, stem, path)
                    self._add(place, 1, path.stem, path)
                elif not is_of_tool(path.name) and path.is_dir() and images_in(path):
                    self._add(place, 3, path.name, path)
        for name in _split(path.name for path in entries_of(images))[1]:
            path = images / name
            self._add(len(folders), 0, marked_stem(path.stem) or "", path)

    def _add(self, place: int, rank: int, stem: str, path: Path) -> None:
        self._by_stem.setdefault(fold(stem), []).append((place, rank, stem, path))

    def of(self, image: Path) -> Path | None:
        """The mask of an image, or None. It is a file of the image's stem, with or without an
        ending such as `_mask`, or a folder of that stem whose masks make up one together."""
        entries = self._by_stem.get(fold(image.stem))
        if not entries:
            return None
        return min(entries, key=lambda e: (e[0], e[2] != image.stem, e[1], e[3]))[3]


def images_below(folder: Path) -> list[Path]:
    """Images of a folder in name order; of all its subfolders where it has none itself.

    Folders of masks and of tools are not entered, and masks beside images are no images. A
    warning counts what is left out.

    Raises:
        DataError: there is no image, or a folder cannot be read.
    """

    def fail(error: OSError) -> None:
        raise DataError(
            f"cannot read folder {error.filename}: {error.strerror}.", "check its permissions"
        ) from error

    images = images_in(folder)
    if not images:
        for parent, folders, _ in os.walk(folder, onerror=fail):
            folders[:] = sorted(
                f for f in folders if not is_of_tool(f) and key(f) not in TRUTH_FOLDERS
            )
            images += images_in(Path(parent))
    if not images:
        raise DataError(
            f"folder {folder} has no images.",
            f"put images into it; readable are {' '.join(IMAGE_SUFFIXES)}",
        )
    say_left_out(folder, images)
    return images


_HIDDEN = "%s: left out %d picture(s) that are hidden or made by a tool: %s."
_OTHER = "%s: left out %d file(s) of kinds that are not read: %s."
_ORPHANS = "%s: left out %d mask(s) of no image that is read: %s."
_BESIDE = "%s: left out %d picture(s) named as masks of the images beside them: %s."
_UNUSED = "%s: left out %d image(s) that this layout does not use: %s."
_LINKED = "%s: left out %d image(s) in folders that are links: %s."


def say_left_out(root: Path, used: Collection[Path]) -> None:
    """Warn of the pictures below a folder that are not used: why, how many, the first names.

    Args:
        root: of the data set.
        used: images and masks that are used; a folder among them stands for all its files.
    """
    taken = {os.fspath(path) for path in used}
    reasons: dict[str, list[str]] = {}
    for folder, name, reason in _pictures_below(root):
        if folder not in taken and os.path.join(folder, name) not in taken:
            place = Path(folder, name).relative_to(root).as_posix()
            reasons.setdefault(reason, []).append(place)
    for reason, names in reasons.items():
        shown = ", ".join(names[:_NAMED]) + (" and more" if len(names) > _NAMED else "")
        _log.warning(reason, root, len(names), shown)


def _pictures_below(root: Path) -> Iterator[tuple[str, str, str]]:
    """Folder and name of files that hold pictures, and the warning for one that nothing uses."""
    for parent, folders, files in os.walk(root):
        here = Path(parent)
        parts = here.relative_to(root).parts
        folders[:] = sorted(folders) if len(parts) < _DEEPEST else []
        of_tool = any(is_of_tool(part) for part in parts)
        of_truth = any(key(part) in TRUTH_FOLDERS for part in parts)
        beside = set(_split(files)[1])
        for name in sorted(files):
            suffix = os.path.splitext(name)[1].lower()
            if suffix not in IMAGE_SUFFIXES:
                known = suffix in _OTHER_SUFFIXES or _is_picture(here / name)
                if known and not (of_tool or is_of_tool(name)):
                    yield parent, name, _OTHER
            elif of_tool or is_of_tool(name):
                yield parent, name, _HIDDEN
            elif of_truth:
                yield parent, name, _ORPHANS
            elif name in beside:
                yield parent, name, _BESIDE
            else:
                yield parent, name, _UNUSED
        for name in folders:
            if (here / name).is_symlink() and not is_of_tool(name):
                for path in images_in(here / name):
                    yield os.path.join(parent, name), path.name, _LINKED


def _is_picture(path: Path) -> bool:
    """Whether a file starts like a picture of a format that is read."""
    try:
        if not path.is_file():  # a pipe would be waited for
            return False
        with path.open("rb") as file:
            return READ.match(file.read(16)) is not None
    except OSError:
        return False
