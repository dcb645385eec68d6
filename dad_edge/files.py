"""Files that are written whole or not at all, and their digests."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dad_edge.errors import StorageError, writing


def read_whole(path: Path) -> bytes:
    """The content of a file; a pipe or a device, which may never end, is not waited for.

    Raises:
        OSError: it cannot be read, or is no regular file.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
        mode = os.fstat(file.fileno()).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
        if not stat.S_ISREG(mode):
            raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", path)
        return file.read()


def sha256_of(path: Path) -> str:
    """Hexadecimal SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def is_file_name(name: str) -> bool:
    """Whether a name from a document can only be a file in the folder of that document."""
    if name in ("", ".", "..") or set(name) & {"/", "\0"}:
        return False
    try:
        return len(os.fsencode(name)) < 256
    except UnicodeEncodeError:  # half of a pair, which no file's name can hold
        return False


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON file so that readers see the old or the new content, never half of it.

    Raises:
        StorageError: the file cannot be written.
    """
    write_whole(path, encode_json(value, indent=2))


def encode_json(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    r"""JSON in UTF-8 and a line end; bytes of file names that are not UTF-8 become `\xfc`.

    Args:
        value: plain values; a number that is not finite is a programming error.
        indent: spaces a level; all on one line if None.
    """
    text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False)
    text = re.sub("[\udc80-\udcff]", lambda byte: rf"\\x{ord(byte[0]) - 0xDC00:02x}", text)
    return text.encode("utf-8", "backslashreplace") + b"\n"


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that readers see the old or the new content, never half of it.

    Raises:
        StorageError: the file cannot be written; the old one is untouched.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = draft_of(path)
        # Who may read it is the user's to say, in the umask.
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(handle)
            os.replace(draft, path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


def draft_of(path: Path) -> Path:
    """A hidden name beside a file or folder, which nobody else uses."""
    return path.with_name(f".{path.name}-{secrets.token_hex(6)}")


@contextmanager
def new_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Make a folder that appears under its name only when it is complete.

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
        draft = draft_of(path)
        draft.mkdir()
    try:
        with writing(path):
            yield draft
            _take_name(draft, path, replace)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise


@contextmanager
def sole_writer(folder: Path) -> Iterator[None]:
    """Keep other processes from writing into a folder for as long as the context lasts.

    The folder is created. The kernel holds the lock on the folder itself: it leaves no file behind
    and ends with the process, however the process ends.

    Raises:
        StorageError: another process writes there, or the folder cannot be created.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise StorageError(
                f"another dad-edge writes into {folder} at this moment.",
                "wait until it ends, or choose another folder",
            ) from error
        except OSError:
            pass  # a file system without locks, as some network shares are
        yield
    finally:
        os.close(handle)


def _take_name(draft: Path, path: Path, replace: bool) -> None:
    """Rename a folder, over an older one if asked, even while another process does the same."""
    while True:
        try:
            os.replace(draft, path)
            return
        except OSError as error:
            if not replace or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        aside = draft_of(path)
        aside.mkdir()
        with suppress(FileNotFoundError):
            os.replace(path, aside)
        shutil.rmtree(aside, ignore_errors=True)
