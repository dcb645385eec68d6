"""A bundle in one file: a ZIP archive without compression, with a list of what is in it.

Weights hardly compress, and what is not compressed cannot grow. The same bundle gives the same
bytes, whoever packs it and whenever.
"""

from __future__ import annotations

import hashlib
import json
import stat
import zipfile
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath
from typing import IO

from dad_edge.bundle import Bundle, open_bundle
from dad_edge.config import RuntimeName
from dad_edge.documents import from_mapping, to_mapping
from dad_edge.errors import DadEdgeError, DataError, StorageError, UsageError, writing
from dad_edge.files import draft_of, new_folder, sha256_of
from dad_edge.runtime.sidecar import list_engines, read_sidecar
from dad_edge.signature import files_of

FORMAT = 1
CONTENTS, REQUIREMENTS, INSIDE = "contents.json", "requirements.txt", "bundle/"
_ON_GPU = ("cuda-core", "cuda-bindings")
_PACKAGES: dict[RuntimeName, tuple[str, ...]] = {
    "onnxruntime": (),
    "openvino": ("openvino",),
    "tensorrt": ("tensorrt", *_ON_GPU),
    "tensorrt-rtx": ("tensorrt-rtx-cu13", *_ON_GPU),
}
"""Runtime of an engine → what it needs beside this package's own requirements."""
_TIME = (1980, 1, 1, 0, 0, 0)
_LARGEST_LIST = 1 << 20
_BLOCK = 1 << 20
_AGAIN = "get the file again from whoever packed it"


@dataclass(frozen=True, kw_only=True, slots=True)
class Contents:
    """`contents.json`, the first file of the archive."""

    format: int
    files: dict[str, str]
    """Path in the bundle → sha256."""


def pack(bundle: Bundle, path: Path) -> Contents:
    """Write a bundle with its engines and signature into one file.

    Args:
        bundle: a checked bundle.
        path: the file; it must not exist.

    Raises:
        StorageError: the file exists, or cannot be written.
    """
    if path.exists():
        raise StorageError(f"{path} exists already.", "choose another name or remove it first")
    files = {name: sha256_of(bundle.path / name) for name in sorted(files_of(bundle.path))}
    contents = Contents(format=FORMAT, files=files)
    draft = draft_of(path)
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with zipfile.ZipFile(draft, "x", zipfile.ZIP_STORED) as archive:
                text = json.dumps(to_mapping(contents), indent=2, sort_keys=True)
                archive.writestr(_entry(CONTENTS), text)
                archive.writestr(_entry(REQUIREMENTS), "".join(_requirements(bundle)))
                for name in files:
                    with (
                        archive.open(_entry(INSIDE + name), "w", force_zip64=True) as target,
                        (bundle.path / name).open("rb") as source,
                    ):
                        _copy(source, target)
            draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)
    return contents


def unpack(path: Path, folder: Path) -> Bundle:
    """Check a packed bundle and write it into a new folder, which appears when it is complete.

    Args:
        path: the file.
        folder: of the bundle; it must not exist.

    Raises:
        DataError: the file is damaged, or holds anything but what its list says.
        ModelError: what it holds is no bundle, or not signed by whom this machine trusts.
        StorageError: the folder exists, or cannot be written.
    """
    try:
        archive = zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.", "check the path") from error
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path} is no packed bundle, or damaged: {error}.", _AGAIN) from error
    with archive:
        try:
            contents = _checked(archive, path)
            with new_folder(folder) as draft:
                for name, digest in contents.files.items():
                    target = draft / name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    with archive.open(INSIDE + name) as source, target.open("wb") as file:
                        if _copy(source, file) != digest:
                            raise DataError(f"{path}: {name} is not what was packed.", _AGAIN)
                open_bundle(draft)
        except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
            raise DataError(f"{path} is damaged: {error}.", _AGAIN) from error
    return open_bundle(folder)


def _checked(archive: zipfile.ZipFile, path: Path) -> Contents:
    """The list of an archive that holds just what it lists, in files without compression."""
    entries = archive.infolist()
    names = [entry.filename for entry in entries]
    if names[:2] != [CONTENTS, REQUIREMENTS] or entries[0].file_size > _LARGEST_LIST:
        raise DataError(f"{path} is no packed bundle.", "make one with 'dad-edge bundle pack'")
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        plain = entry.compress_type == zipfile.ZIP_STORED and not entry.flag_bits & 1
        if not plain or entry.is_dir() or kind not in (0, stat.S_IFREG):
            raise DataError(f"{path}: {entry.filename!r} is no plain file.", _AGAIN)
    try:
        mapping = json.loads(archive.read(CONTENTS))
        contents = from_mapping(Contents, mapping, f"{path}: {CONTENTS}")
    except (ValueError, RecursionError, DadEdgeError) as error:
        raise DataError(f"{path}: its list cannot be read.", _AGAIN) from error
    if contents.format != FORMAT:
        raise DataError(
            f"{path} has format {contents.format}; this version reads {FORMAT}.",
            "unpack it with the version of dad-edge that packed it",
        )
    for name in contents.files:
        if not _is_inside(name):
            raise DataError(f"{path}: {name!r} is no path in a bundle.", _AGAIN)
    if sorted(names[2:]) != sorted(INSIDE + name for name in contents.files):
        raise DataError(f"{path} holds other files than its list says.", _AGAIN)
    return contents


def _is_inside(name: str) -> bool:
    """Whether a path of the list stays in the folder, and is written in one way only."""
    path = PurePosixPath(name)
    odd = "\\" in name or "\0" in name or ":" in name
    return (
        not odd and not path.is_absolute() and ".." not in path.parts and str(path) == name != "."
    )


def _copy(source: IO[bytes], target: IO[bytes]) -> str:
    """Copy a file; its sha256."""
    digest = hashlib.sha256()
    while block := source.read(_BLOCK):
        digest.update(block)
        target.write(block)
    return digest.hexdigest()


def _entry(name: str) -> zipfile.ZipInfo:
    """The head of a file, the same on every machine."""
    entry = zipfile.ZipInfo(name, _TIME)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFREG | 0o644) << 16
    return entry


def _requirements(bundle: Bundle) -> list[str]:
    """The packages that inspect with this bundle, in the versions that are installed here."""
    names = {"dad-edge"}
    try:
        own = metadata.requires("dad-edge") or []
    except metadata.PackageNotFoundError:  # it runs from its sources
        own = []
    for requirement in own:
        if "extra ==" not in requirement:
            names.add(_name_in(requirement))
    for engine in list_engines(bundle):
        names.update(_PACKAGES[read_sidecar(bundle, engine).runtime])
    lines = []
    for name in sorted(names):
        try:
            lines.append(f"{name}=={metadata.version(name)}\n")
        except metadata.PackageNotFoundError:
            continue  # it comes with the system, as TensorRT does on a Jetson
    return lines


def _name_in(requirement: str) -> str:
    """The package of a requirement such as `numpy>=2.0`."""
    for index, letter in enumerate(requirement):
        if not (letter.isalnum() or letter in "-_."):
            return requirement[:index]
    return requirement


def is_packed(path: Path) -> bool:
    """Whether a path is a packed bundle and not a folder.

    Raises:
        UsageError: it is neither.
    """
    if path.is_dir():
        return False
    if path.is_file():
        return True
    raise UsageError(f"{path} does not exist.", "name a bundle's folder or a packed one")
