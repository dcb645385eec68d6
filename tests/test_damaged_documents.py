"""Whatever an editor, a copy or a disk does to a document of a bundle: it opens or is refused."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tiny import make_tiny_bundle

from dad_edge.bundle import ENGINES, MANIFEST, THRESHOLDS, open_bundle
from dad_edge.config import RECIPES, read_recipe
from dad_edge.deploy.build import Target, build
from dad_edge.documents import to_mapping
from dad_edge.errors import DadEdgeError
from dad_edge.runtime.inspector import open_inspector
from dad_edge.runtime.sidecar import (
    ENGINE_THRESHOLDS,
    SIDECAR,
    plan_differences,
    read_sidecar,
    rebuild_command,
    write_engine_thresholds,
)

BOUNDED = settings(
    max_examples=120,
    derandomize=True,
    database=None,
    deadline=None,
)
FRAME = np.zeros((40, 48, 3), np.uint8)

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 2, 55, 10**9, 10**30, 10**400]),
    st.floats(),
    st.floats(-2, 2),
    st.text(max_size=8),
    st.sampled_from(["", "..", "/dev/zero", "0,55", "55%", "cpu", "sm", "a\0b", "²", "x" * 300]),
    st.lists(st.integers(-1, 300), max_size=4),
    st.dictionaries(st.text(max_size=4), st.integers(), max_size=2),
)

Change = Callable[[bytes], bytes]


def places(value: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a document, as the keys that lead there."""
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, entry in items:
        yield (*place, key)
        if isinstance(entry, (dict, list)):
            yield from places(entry, (*place, key))


@st.composite
def edits(draw: st.DrawFn) -> Change:
    """One value is replaced, removed, or gets another key."""
    which, kind = draw(st.integers(0, 10**6)), draw(st.sampled_from(["value", "gone", "renamed"]))
    value, key = draw(VALUES), draw(st.text(max_size=6))

    def change(content: bytes) -> bytes:
        document = copy.deepcopy(json.loads(content))
        known = list(places(document))
        *parents, last = known[which % len(known)]
        parent = document
        for step in parents:
            parent = parent[step]
        if kind == "value":
            parent[last] = value
        elif kind == "gone" or isinstance(parent, list):
            del parent[last]
        else:
            parent[key] = parent.pop(last)
        return json.dumps(document).encode()

    return change


@st.composite
def damages(draw: st.DrawFn) -> Change:
    """Bytes are lost, and others stand there instead."""
    start, length = draw(st.floats(0, 1)), draw(st.integers(0, 40))
    written = st.sampled_from([b'"', b"{", b",", b"9" * 5000])
    instead = draw(st.one_of(st.binary(max_size=4), written))

    def change(content: bytes) -> bytes:
        first = int(start * len(content))
        return content[:first] + instead + content[first + length :]

    return change


CHANGES = st.one_of(edits(), damages())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A calibrated bundle with an engine that has thresholds of its own."""
    made = make_tiny_bundle(tmp_path_factory.mktemp("documents") / "bundle")
    name = build(made, "fp16", Target(runtime="onnxruntime")).name
    assert made.thresholds is not None
    write_engine_thresholds(made, name, made.thresholds)
    return made.path, name


def use(path: Path, engine: str) -> None:
    """Everything that reads a document, down to the verdict on a frame."""
    bundle = open_bundle(path)
    sidecar = read_sidecar(bundle, engine)
    assert rebuild_command(sidecar)
    here = {"version": "10.3.0", "capability": "8.7", "platform": "Linux-aarch64"}
    plan_differences(sidecar, **here, gpu="Orin", multiprocessors=16)
    with open_inspector(bundle, engine=engine, threads=1) as inspector:
        assert 0 <= inspector.threshold <= 1
        inspector.inspect(FRAME)


def try_with(path: Path, change: Change, then: Callable[[], object]) -> None:
    """Use a changed document; a `DadEdgeError` is an answer, any other one fails the test."""
    before = path.read_bytes()
    path.write_bytes(change(before))
    try:
        then()
    except DadEdgeError as error:
        told = error
    else:
        return
    finally:
        path.write_bytes(before)
    assert told.message
    assert told.next_step
    assert "\n" not in told.message + told.next_step


@BOUNDED
@given(change=damages())
@example(change=lambda content: b"model = " + b"[" * 100_000)
@example(change=lambda content: content.replace(b"seed = 0", b"seed = " + b"1" * 5000))
def test_a_changed_recipe(tmp_path_factory: pytest.TempPathFactory, change: Change) -> None:
    path = tmp_path_factory.mktemp("recipe") / "recipe.toml"
    path.write_text(tomli_w.dumps(to_mapping(RECIPES["nano"])))
    try_with(path, change, lambda: read_recipe(path))


@BOUNDED
@given(change=CHANGES)
@example(change=lambda content: b"[" * 100_000)
@example(change=lambda content: content.replace(b'"format": 1', b'"format": ' + b"1" * 5000))
def test_a_changed_manifest(bundle: tuple[Path, str], change: Change) -> None:
    path, engine = bundle
    try_with(path / MANIFEST, change, lambda: use(path, engine))


@BOUNDED
@given(change=CHANGES)
@example(change=lambda content: content.replace(b"0.5,", b"NaN,"))
@example(change=lambda content: content.decode().encode("utf-16"))
def test_changed_thresholds(bundle: tuple[Path, str], change: Change) -> None:
    path, engine = bundle
    try_with(path / THRESHOLDS, change, lambda: use(path, engine))


@BOUNDED
@given(change=CHANGES)
@example(change=lambda content: content.replace(b'"format": 2', b'"format": ' + b"1" * 5000))
def test_a_changed_sidecar(bundle: tuple[Path, str], change: Change) -> None:
    path, engine = bundle
    try_with(path / ENGINES / engine / SIDECAR, change, lambda: use(path, engine))


@BOUNDED
@given(change=CHANGES)
def test_changed_thresholds_of_an_engine(bundle: tuple[Path, str], change: Change) -> None:
    path, engine = bundle
    try_with(path / ENGINES / engine / ENGINE_THRESHOLDS, change, lambda: use(path, engine))
