"""Every error a user can meet, with its next step and exit code.

DadEdgeError                 1  a check said no (accuracy gate, comparison)
├── UsageError               2  arguments that do not fit together
├── DataError                3  images, folders, cameras, videos
├── ModelError               4  checkpoint, bundle or engine that does not fit
├── MissingDependency        5  a package or library that is not installed, or cannot be imported
├── DeviceError              6  GPU, driver, inference runtime
├── StorageError             7  disk full, read-only, no permission
├── ReaderLeft             141  nobody reads stdout any more, as behind `| head`; not reported
└── Interrupted      128 + n    signal n (Ctrl-C, SIGTERM, a closed terminal), all was saved
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from dad_edge import packages

INSTALL_HINT = "pip install 'dad-edge[{extra}]'"


_LINE_ENDS_AND_TABS = "\n\t"
_TURNS_TEXT_ROUND = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""Characters that make a terminal show text in another order than it stands in."""
_ESCAPED = {
    code: chr(code).encode("unicode_escape").decode()
    for code in (*range(0x20), *range(0x7F, 0xA0), *_TURNS_TEXT_ROUND)
    if chr(code) not in _LINE_ENDS_AND_TABS
}


def printable(text: str) -> str:
    r"""Text that every output takes and no terminal obeys.

    Bytes of file names that are not UTF-8 become `\xfc`. So do the characters that move the cursor,
    colour what follows or turn text round: names of files come from anywhere.
    """
    known = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return known.translate(_ESCAPED)


class DadEdgeError(Exception):
    """An error with a sentence for the user and the next thing to do."""

    exit_code = 1

    def __init__(self, message: str, next_step: str) -> None:
        self.message = printable(message)
        self.next_step = printable(next_step)
        super().__init__(self.message)


class UsageError(DadEdgeError, ValueError):
    """Arguments that cannot be carried out as given."""

    exit_code = 2


class DataError(DadEdgeError):
    """An image, folder, camera or video that cannot be used."""

    exit_code = 3


class ModelError(DadEdgeError):
    """A checkpoint, bundle or engine that does not fit what was asked."""

    exit_code = 4


class MissingDependency(DadEdgeError):
    """A package that this command needs, and that this environment lacks or cannot import."""

    exit_code = 5


class DeviceError(DadEdgeError):
    """A GPU, driver or inference runtime that failed or is not there."""

    exit_code = 6


class StorageError(DadEdgeError):
    """A file that cannot be written."""

    exit_code = 7


class ReaderLeft(DadEdgeError):
    """Nobody reads stdout any more; the program then ends without a word."""

    exit_code = 128 + signal.SIGPIPE

    def __init__(self) -> None:
        super().__init__("nobody reads stdout any more.", "add --out DIR to keep the results")


class Interrupted(DadEdgeError):
    """The run was ended by a signal after its results were saved."""

    def __init__(self, message: str, next_step: str, signal_number: int) -> None:
        super().__init__(message, next_step)
        self.exit_code = 128 + signal_number


def require(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional package, or say which extra installs it.

    Args:
        module: dotted module name, such as ``"torch"``.
        extra: the extra of this project that brings it, such as ``"train"``.
        purpose: what needs it, as the end of the sentence "... is needed to".

    Raises:
        MissingDependency: the package is not installed, or cannot be imported.
    """
    try:
        return packages.load(module)
    except Exception as error:  # a broken package raises anything
        missing = (error.name or module) if isinstance(error, ModuleNotFoundError) else ""
        if missing and not packages.is_part_of_installed(missing):
            raise MissingDependency(
                f"package '{missing}' is not installed; it is needed to {purpose}.",
                INSTALL_HINT.format(extra=extra),
            ) from error
        top = module.partition(".")[0]
        raise _broken(top, error, f"; it is needed to {purpose}") from error


@contextmanager
def usable_packages() -> Iterator[None]:
    """Turn an error that arose while another package was imported into a `MissingDependency`.

    Every other error passes through, and so does another `ImportError`, a mistake of this program.

    Raises:
        MissingDependency: a package is not installed, or cannot be imported.
    """
    try:
        yield
    except Exception as error:
        package = None if isinstance(error, DadEdgeError) else packages.failed_import(error)
        if package is None:
            raise
        if packages.is_absent(package):
            step = packages.INSTALL_CORE if package in packages.CORE else f"pip install {package}"
            raise MissingDependency(f"package '{package}' is not installed.", step) from error
        raise _broken(package, error) from error


def _broken(package: str, error: BaseException, purpose: str = "") -> MissingDependency:
    reason = packages.reason_of(error)
    return MissingDependency(
        f"package '{package}' is installed but cannot be imported: {reason}{purpose}.",
        packages.repair_of(package, reason),
    )


_STORAGE_REASONS = {
    errno.ENOSPC: ("the disk is full", "free some space there, or choose another folder"),
    errno.EDQUOT: ("the disk quota is used up", "free some space there, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose a folder on a writable disk"),
    errno.EACCES: ("permission denied", "choose a folder you may write to, or change its owner"),
    errno.EPERM: ("permission denied", "choose a folder you may write to, or change its owner"),
    errno.ENOTDIR: ("a file is in the way of a folder", "choose another folder name"),
    errno.EEXIST: ("a file is in the way of a folder", "choose another folder name"),
    errno.ENOTEMPTY: ("another program made it meanwhile", "choose another folder name"),
}


@contextmanager
def writing(path: Path | str) -> Iterator[None]:
    """Turn an ``OSError`` raised while writing ``path`` into a ``StorageError``.

    Raises:
        StorageError: the disk is full, read-only, or may not be written.
        ReaderLeft: it is a pipe whose reader has left.
    """
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderLeft from error
    except OSError as error:
        reason, next_step = _STORAGE_REASONS.get(
            error.errno or 0, (error.strerror or str(error), "check the disk and the path")
        )
        raise StorageError(f"cannot write {path}: {reason}.", next_step) from error
