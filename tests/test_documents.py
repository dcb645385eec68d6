from __future__ import annotations

import codecs
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest

from dad_edge.documents import from_mapping, read_json, read_toml, to_mapping
from dad_edge.errors import ModelError, UsageError


@dataclass(frozen=True, kw_only=True, slots=True)
class Inner:
    side: int = 4
    shape: Literal["round", "square"] = "round"
    pair: tuple[float, float] = (0.0, 1.0)
    steps: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UsageError(f"side must be positive, got {self.side}.", "use 4")


@dataclass(frozen=True, kw_only=True, slots=True)
class Outer:
    share: float
    inner: Inner = field(default_factory=Inner)
    ranges: dict[str, dict[str, tuple[float, float]]] = field(default_factory=dict)
    parts: tuple[Inner, ...] = ()
    best: Inner | None = None
    minutes: float | None = None
    colour: Literal["red", "blue"] | None = None
    mixed: tuple[int, Inner] = (0, Inner())


def write(folder: Path, content: bytes) -> Path:
    path = folder / "file"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (3, "file: expected a table, got 3"),
        ({}, "file: key 'share' is missing"),
        ({"shares": 0.5}, "file: key 'share' is missing; there is an unknown key 'shares'"),
        ({"inner": 3}, "file.inner: expected a table, got 3"),
        ({"inner": {"edge": 3}}, "file.inner: unknown key 'edge'; known are pair, shape, side, st"),
        ({"inner": {"side": "4"}}, "file.inner.side: expected int, got '4'"),
        ({"inner": {"side": 4.0}}, "file.inner.side: expected int, got 4.0"),
        ({"inner": {"side": True}}, "file.inner.side: expected int, got True"),
        ({"inner": {"side": None}}, "file.inner.side: expected int, got None"),
        ({"inner": {"side": 0}}, "file.inner: side must be positive, got 0"),
        ({"inner": {"shape": "long"}}, "inner.shape: expected one of round, square, got 'long'"),
        ({"inner": {"shape": "x - at `$.a`"}}, "inner.shape: expected one of round, square"),
        ({"inner": {"steps": 3}}, "file.inner.steps: expected a list, got 3"),
        ({"inner": {"steps": [1, "x"]}}, r"file.inner.steps\[1\]: expected int, got 'x'"),
        ({"inner": {"pair": [0.0]}}, r"file.inner.pair: expected a list of length 2, got \[0.0\]"),
        ({"ranges": {"a": {"b": [1, "x"]}}}, r"file.ranges.a.b\[1\]: expected float, got 'x'"),
        ({"ranges": {"a": {}, "b": 3}}, "file.ranges.b: expected a table, got 3"),
        ({"parts": [{"side": "4"}]}, r"file.parts\[0\].side: expected int, got '4'"),
        ({"parts": [{"edge": 4}]}, r"file.parts\[0\]: unknown key 'edge'"),
        ({"best": {"side": "4"}}, "file.best.side: expected int, got '4'"),
        ({"best": {"edge": 4}}, "file.best: unknown key 'edge'"),
        ({"a\nb": 4}, r"file: unknown key 'a\\nb'"),
        ({"ranges": {"a\nb": 3}}, r"file.ranges\['a\\nb'\]: expected a table, got 3"),
        ({"minutes": "long"}, "file.minutes: expected float, got 'long'"),
        ({"colour": "green"}, "file.colour: expected one of red, blue, got 'green'"),
        ({"mixed": [0, {"shape": 3}]}, r"file.mixed\[1\].shape: expected one of round, square"),
        ({"minutes": 10**400}, "file.minutes: number out of range, got 1000"),
        ({"share": "0,5"}, "file.share: expected float, got '0,5'"),
        ({"share": "x" * 5000}, "file.share: expected float, got 'x{1,40}[.]"),
    ],
)
def test_what_does_not_fit_is_refused_with_its_place(values: object, says: str) -> None:
    if isinstance(values, dict) and "missing" not in says:
        values = {"share": 0.5} | values
    with pytest.raises(ModelError, match=says) as caught:
        from_mapping(Outer, values, "file")
    assert caught.value.next_step
    assert len(caught.value.message) < 200


def test_settings_survive_a_document() -> None:
    outer = Outer(share=1, parts=(Inner(side=2),), ranges={"a": {"b": (0.0, 2.0)}}, minutes=1.5)
    mapping = to_mapping(outer)
    assert mapping["parts"] == [{"side": 2, "shape": "round", "pair": [0.0, 1.0], "steps": []}]
    assert "best" not in mapping
    assert from_mapping(Outer, mapping, "file") == outer


def test_whole_numbers_are_floats_too() -> None:
    assert isinstance(from_mapping(Outer, {"share": 1}, "file").share, float)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not valid JSON"),
        (b"[]", "is not a JSON object"),
        (b'{"share": 0,5}', "not valid JSON: .* in line 1"),
        (b'{\n\n"share": NaN}', "not valid JSON: .* in line 3"),
        (b'{"share": -Infinity}', "not valid JSON"),
        (b'{"share": 1e999}', "not valid JSON: .*out of range"),
        (b'{"share": ' + b"1" * 5000 + b"}", "not valid JSON: .*out of range"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"share": "\xff"}', "not UTF-8 text"),
        ('{"share": 0.5}'.encode("utf-16"), "not UTF-8 text"),
        (b'{"share": 0.5, }', "trailing comma"),
        (b'{"share": 0.5', "not valid JSON"),
    ],
)
def test_damaged_json_is_refused_in_two_lines(content: bytes, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ModelError, match=says) as caught:
        read_json(path)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message + caught.value.next_step
    assert len(caught.value.message) < 300


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"[inner", "not valid TOML"),
        (b"share = 0,5", "not valid TOML.*line 1"),
        (b"share = " + b"1" * 5000, "not valid TOML"),
        (b"share = " + b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe\x00", "not UTF-8 text"),
    ],
)
def test_damaged_toml_is_refused_in_two_lines(content: bytes, says: str, tmp_path: Path) -> None:
    path = write(tmp_path, content)
    with pytest.raises(ModelError, match=says) as caught:
        read_toml(Outer, path)
    assert caught.value.message.startswith(str(path))
    assert "\n" not in caught.value.message + caught.value.next_step


def test_the_mark_that_an_editor_puts_first_is_passed_over(tmp_path: Path) -> None:
    assert read_json(write(tmp_path, codecs.BOM_UTF8 + b'{"share": 0.5}')) == {"share": 0.5}
    marked = write(tmp_path, codecs.BOM_UTF8 + b"share = 0.5\r\n")
    assert read_toml(Outer, marked) == Outer(share=0.5)


@pytest.mark.parametrize(("name", "says"), [("missing", "no such file"), (".", "Is a directory")])
def test_a_file_that_cannot_be_read(name: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=says):
        read_json(tmp_path / name)
    with pytest.raises(ModelError, match=says):
        read_toml(Outer, tmp_path / name)


def test_a_key_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    """Which of two thresholds the operator means is not for a parser to guess."""
    path = write(tmp_path, b'{"share": 0.5, "inner": {"side": 1, "side": 2}}')
    with pytest.raises(ModelError, match="the key 'side' is there twice"):
        read_json(path)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "file")
    with pytest.raises(ModelError, match="it is a pipe or a device"):
        read_json(tmp_path / "file")
