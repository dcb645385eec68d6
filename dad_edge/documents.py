"""JSON and TOML files as frozen dataclasses; what does not fit is refused with its place."""

from __future__ import annotations

import codecs
import json
import re
import reprlib
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import msgspec

from dad_edge.errors import DadEdgeError, ModelError
from dad_edge.files import read_whole

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

_STEP = re.compile(r"\.(\w+)|\[(\d+|\.\.\.)\]")
"""One step of a place as msgspec names it, such as `$.model.lambdas[1]`."""
_PLAIN = {"`object`": "a table", "`array`": "a list", " | null": "", "`": ""}
"""Words of msgspec → words of the files."""


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; a byte order mark before it is passed over.

    Raises:
        ModelError: the file cannot be read or is not a JSON object.
    """
    mapping = _read(path, "JSON", msgspec.json.decode)
    if not isinstance(mapping, dict):
        raise ModelError(f"{path} is not a JSON object.", "restore the file")
    return mapping


def read_toml(kind: type[T], path: Path) -> T:
    """Read settings of a kind from a TOML file; a byte order mark before it is passed over.

    Raises:
        ModelError: the file cannot be read, is not TOML, or does not fit the kind.
    """
    return from_mapping(kind, _read(path, "TOML", tomllib.loads), str(path))


def _read(path: Path, language: str, decode: Callable[[str], Any]) -> Any:
    try:
        content = read_whole(path)
    except FileNotFoundError as error:
        raise ModelError(f"{path}: no such file.", "check the path, or restore the file") from error
    except OSError as error:
        raise ModelError(
            f"{path} cannot be read: {error.strerror}.", "check the path and its permissions"
        ) from error
    content = content.removeprefix(codecs.BOM_UTF8)
    try:
        text = content.decode()
        value = decode(text)
        if language == "JSON":  # msgspec takes the last of two equal keys, unsaid
            json.loads(text, object_pairs_hook=_refuse_equal_keys)
        return value
    except UnicodeDecodeError as error:
        raise ModelError(
            f"{path} cannot be read: it is not UTF-8 text.", "save it as UTF-8, or restore it"
        ) from error
    except RecursionError as error:
        raise ModelError(
            f"{path} cannot be read: it is nested too deeply.", "restore the file"
        ) from error
    except ValueError as error:  # of both decoders, and of integers with thousands of digits
        raise ModelError(
            f"{path} cannot be read: not valid {language}: {_at_line(str(error), content)}.",
            "correct it (a number is written 0.5, a text in double quotes), or restore the file",
        ) from error


def _refuse_equal_keys(pairs: list[tuple[str, Any]]) -> None:
    seen: set[str] = set()
    for key, _ in pairs:
        if key in seen:
            raise ValueError(f"the key {reprlib.repr(key)} is there twice")
        seen.add(key)


def _at_line(said: str, content: bytes) -> str:
    """What msgspec said, with the line in place of the byte, because people count lines."""
    byte = re.search(r" \(byte (\d+)\)$", said)
    if not byte:
        return said
    line = content.count(b"\n", 0, int(byte[1])) + 1
    return f"{said[: byte.start()].removeprefix('JSON is malformed: ')} in line {line}"


def from_mapping(kind: type[T], mapping: Any, where: str, *, strict: bool = True) -> T:
    """Build a settings dataclass from plain values, refusing what it does not know.

    Args:
        kind: a frozen dataclass whose fields are annotated.
        mapping: decoded TOML or JSON.
        where: file and section, for the error's sentence.
        strict: numbers are not taken from text, as an address has them.

    Raises:
        ModelError: a key is unknown or missing, or a value has another type or range.
    """
    try:
        settings = msgspec.convert(mapping, kind, strict=strict)
    except msgspec.ValidationError as error:
        raise _refusal(kind, mapping, where, error) from error
    _refuse_unknown(mapping, msgspec.to_builtins(settings), where)
    return settings


def _refusal(kind: Any, value: Any, where: str, error: msgspec.ValidationError) -> ModelError:
    """The error with what msgspec leaves out: keys of mappings, the value, and the choices."""
    said, place = str(error), ""
    if " - at `$" in said:
        said, _, place = said.rpartition(" - at `$")
    for name, index in _STEP.findall(place):
        kind, key = _follow(kind, value, name or index)
        value, where = value[key], _inside(where, key)
    if isinstance(error.__cause__, DadEdgeError):
        return ModelError(f"{where}: {error.__cause__.message}", error.__cause__.next_step)
    if lacks := re.search("missing required field `(.*)`", said):
        unknown = sorted(value.keys() - get_type_hints(kind).keys())
        beside = f"; there is an unknown key {reprlib.repr(unknown[0])}" if unknown else ""
        return ModelError(f"{where}: key '{lacks[1]}' is missing{beside}.", "add the missing key")
    said = said[:1].lower() + said[1:].partition(", got ")[0]
    if get_origin(kind) is Literal:
        said = f"expected one of {', '.join(map(str, get_args(kind)))}"
    for foreign, plain in _PLAIN.items():
        said = said.replace(foreign, plain)
    return ModelError(f"{where}: {said}, got {reprlib.repr(value)}.", "correct the value")


def _follow(kind: Any, value: Any, step: str) -> tuple[Any, str | int]:
    """The annotated type one step into a value, and the key that leads there."""
    parts = get_args(kind)
    key: str | int = step
    if step == "...":
        kind = parts[1]
        key = next(key for key in value if not _fits(kind, value[key]))
    elif step.isdigit():
        key = int(step)
        kind = parts[0] if parts[-1] is Ellipsis else parts[key]
    else:
        kind = get_type_hints(kind)[step]
    if get_origin(kind) in (Union, UnionType):
        kind = next(option for option in get_args(kind) if option is not NoneType)
    return kind, key


def _inside(where: str, key: str | int) -> str:
    """A place with one more step; a key with line breaks and the like is quoted."""
    if isinstance(key, str) and key.isprintable():
        return f"{where}.{key}"
    return f"{where}[{reprlib.repr(key)}]"


def _fits(kind: Any, value: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return True


def _refuse_unknown(given: Any, known: Any, where: str) -> None:
    """Refuse keys that no field takes; msgspec itself passes over them."""
    if isinstance(given, dict):
        for key, value in given.items():
            if key not in known:
                raise ModelError(
                    f"{where}: unknown key {reprlib.repr(key)}; known are "
                    f"{', '.join(sorted(known))}.",
                    "correct the spelling or remove it",
                )
            _refuse_unknown(value, known[key], _inside(where, key))
    elif isinstance(given, (list, tuple)):
        for index, (value, taken) in enumerate(zip(given, known, strict=True)):
            _refuse_unknown(value, taken, _inside(where, index))


def to_mapping(settings: Any) -> dict[str, Any]:
    """The settings as plain values for TOML or JSON: tuples as lists, None left out."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: plain(v) for k, v in value.items() if v is not None}
        if isinstance(value, (tuple, list)):
            return [plain(v) for v in value]
        return value

    mapping: dict[str, Any] = plain(asdict(settings))
    return mapping
