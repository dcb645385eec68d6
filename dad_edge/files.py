"""Files that are written whole or not at all, and their digests."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dad_edge.errors import StorageError, writing


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_file_name(name: str) -> bool:
    """Whether a name from a document can only be a file in the folder of that document."""
    return name not in ("", ".", "..") and not set(name) & {"/", "\0"} and len(name.encode()) < 256


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that readers see the old or the new content, never half of it.

    Raises:
        StorageError: the file cannot be written.
    """
    write_whole(path, (json_text(value) + "\n").encode())


def json_text(value: Mapping[str, Any]) -> str:
    """A JSON object as text that can always be encoded: bytes of file names that are not UTF-8
    are written as escapes, and read back as they were."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    return text.encode("utf-8", "backslashreplace").decode()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old or the new content, never half of it.

    Raises:
        StorageError: the file cannot be written; the old one is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears under its name only when it is complete.

    Args:
        path: final name.
        replace: whether an older folder of that name gives way once the new one is complete.

    Yields:
        A hidden sibling to write into; it is removed if anything fails.

    Raises:
        StorageError: the name is taken, or the folder cannot be written.
    """
    if path.exists() and not replace:
        raise StorageError(f"{path} exists already.", "choose another name or remove it first")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
        draft.chmod(0o755)
    try:
        with writing(path):
            yield draft
            _take_name(draft, path, replace)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


def _take_name(draft: Path, path: Path, replace: bool) -> None:
    """Rename, over an older folder if asked, although another process may be doing the same."""
    while True:
        try:
            os.replace(draft, path)
            return
        except OSError as error:
            if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside = tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-")
        with suppress(FileNotFoundError):
            os.replace(path, aside)
        shutil.rmtree(aside, ignore_errors=True)
