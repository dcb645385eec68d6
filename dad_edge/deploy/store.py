"""Packed bundles in a store: an address that fsspec knows, such as s3://bucket/flange.zip."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dad_edge.errors import DataError, StorageError, require

_NAME = "bundle.zip"


@contextmanager
def fetched(place: str, shown: str) -> Iterator[Path]:
    """A packed bundle as a file, which is gone afterwards if it came from a store.

    Args:
        place: path or address.
        shown: the same without secrets, for messages.

    Raises:
        MissingDependency: the address needs a package that is not installed.
        DataError: the store does not have it, or does not answer.
    """
    if not is_address(place):
        yield Path(place)
        return
    store, path = _store_of(place, shown)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _NAME
        try:
            store.get_file(path, str(file))
        except Exception as error:  # each kind of store raises errors of its own
            raise DataError(
                f"{shown} cannot be fetched: {_said(error, place)}.",
                "check the address, and that this machine may read there",
            ) from error
        yield file


@contextmanager
def stored(place: str, shown: str) -> Iterator[Path]:
    """A file to write, which afterwards lies at an address; one that lies there is not replaced.

    Args:
        place: path or address.
        shown: the same without secrets, for messages.

    Raises:
        MissingDependency: the address needs a package that is not installed.
        StorageError: something lies there already, or the store does not take it.
    """
    if not is_address(place):
        yield Path(place)
        return
    store, path = _store_of(place, shown)
    try:
        exists = store.exists(path)
    except Exception as error:
        raise _refused(place, shown, error) from error
    if exists:
        raise StorageError(f"{shown} exists already.", "choose another name or remove it first")
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _NAME
        yield file
        try:
            store.put_file(str(file), path)
        except Exception as error:
            raise _refused(place, shown, error) from error


def is_address(place: str) -> bool:
    """Whether a bundle lies in a store, and not in a file."""
    return "://" in place


def _store_of(place: str, shown: str) -> tuple[Any, str]:
    fsspec = require("fsspec", "registry", "reach a store")
    try:
        store, path = fsspec.core.url_to_fs(place)
    except Exception as error:  # an unknown scheme, or a package for it that is missing
        raise DataError(
            f"{shown} cannot be reached: {_said(error, place)}.",
            "install the package of that store, such as s3fs, or name a file",
        ) from error
    return store, path


def _refused(place: str, shown: str, error: Exception) -> StorageError:
    return StorageError(
        f"{shown} cannot be written: {_said(error, place)}.",
        "check the address, and that this machine may write there",
    )


def _said(error: Exception, place: str) -> str:
    """What a store says, without the name and password in the address that it may repeat."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    user = urlsplit(place).netloc.rpartition("@")[0]
    return text.replace(user, "***") if user else text
