from __future__ import annotations

from itertools import islice
from typing import Any

import numpy as np
import pytest

from benchmarks import line_load
from benchmarks.line_load import alone, camera_source, lanes_of, loaded, misses, pictures
from dad_edge.bundle import Bundle
from dad_edge.errors import DataError


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_load, "WARM_UP_S", 0.05)


def test_a_line_under_load_is_described(tiny_bundle: Bundle) -> None:
    images = [np.full((36, 64, 3), 20, np.uint8)]
    rates = {"a": 200.0, "b": 200.0, "slow": 2.0, "dead": 0.0}
    row = loaded("test", tiny_bundle.path, images, rates, 1.0)
    assert set(row["fps_of"]) == set(rates)
    assert row["fps_of"]["dead"] == 0
    assert 0 < row["fps_of"]["slow"] <= 3
    assert row["fps_of"]["a"] > row["fps_of"]["slow"]
    assert row["frames"] == pytest.approx(sum(row["fps_of"].values()), abs=1)
    parts = row["networks_ms"] + row["around_ms"] + row["line_ms"]
    assert parts == pytest.approx(row["frame_ms"], abs=0.01)
    assert row["overhead_share"] == pytest.approx(
        1 - row["networks_ms"] / row["frame_ms"], abs=0.01
    )
    assert row["read_to_verdict_ms"]["p50"] > 0


def test_the_inspector_alone_is_described(tiny_bundle: Bundle) -> None:
    row = alone(tiny_bundle.path, [np.full((36, 64, 3), 20, np.uint8)], 0.2)
    assert row["frames"] > 1
    assert 0 < row["networks_ms"] < row["frame_ms"]


def test_a_camera_of_no_frames_breaks_off() -> None:
    with pytest.raises(DataError, match="x is dead"):
        next(camera_source("x", [], 0).frames)


def test_pictures_have_the_size_of_a_camera() -> None:
    [one, other] = pictures(2)
    assert one.shape == other.shape == (720, 1280, 3)
    frames = list(islice(camera_source("x", [one, other], 1000).frames, 3))
    assert [frame.index for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, []),
        ({"overhead_share": 0.2}, ["x: everything but the networks takes 20.0%"]),
        ({"most_by_fewest": 2.0}, ["x: shares differ by 2.0"]),
        ({"latency_growth": 1.5}, ["x: latency grew by 1.5"]),
    ],
)
def test_missed_limits_are_named(change: dict[str, Any], said: list[str]) -> None:
    row = {
        "row": "x",
        "lanes": 2,
        "overhead_share": 0.05,
        "most_by_fewest": 1.0,
        "latency_growth": 1.0,
    }
    assert misses([row | change]) == said


def test_the_inspector_alone_has_no_limits() -> None:
    assert misses([{"row": "alone", "overhead_share": 0.9}]) == []


@pytest.mark.parametrize(("backend", "lanes"), [("x, 1 threads, 3 side by side", 3), ("x", 1)])
def test_lanes_are_read_from_what_computes(backend: str, lanes: int) -> None:
    assert lanes_of(backend) == lanes
