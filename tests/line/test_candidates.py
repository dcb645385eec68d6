from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from stand_in_engines import StandIn

from dad_edge.bundle import Bundle
from dad_edge.config import Precision
from dad_edge.deploy.build import build, find_target
from dad_edge.errors import DadEdgeError, UsageError
from dad_edge.image.scene import Scene
from dad_edge.line import candidates as candidates_module
from dad_edge.line.candidates import LONGEST_PAUSE_S, STEADY, Succession, candidates_of


def succession(*names: str) -> Succession:
    return Succession([StandIn(name).candidate() for name in names])


def test_an_engine_is_started_again_and_then_replaced() -> None:
    engines = succession("int8", "fp32")
    assert engines.failed(restart=True) == ("it is started again", 0.0)
    assert engines.current.engine == "int8"
    assert engines.failed(restart=True) == ("engine 'fp32' takes its place", 0.0)
    assert engines.current.engine == "fp32"
    assert not engines.exhausted


def test_an_engine_that_cannot_be_opened_is_replaced_at_once() -> None:
    engines = succession("int8", "fp32")
    assert engines.failed(restart=False)[0] == "engine 'fp32' takes its place"


def test_a_steady_engine_may_fail_once_more() -> None:
    engines = succession("int8", "fp32")
    for _ in range(3):
        engines.failed(restart=True)
        for _ in range(STEADY):
            engines.worked()
    assert engines.current.engine == "int8"
    engines.failed(restart=True)
    for _ in range(STEADY - 1):
        engines.worked()
    engines.failed(restart=True)
    assert engines.current.engine == "fp32"


def test_when_all_failed_the_first_is_tried_again_after_pauses_that_grow_to_a_limit() -> None:
    engines = succession("int8", "fp32")
    pauses = []
    for _ in range(15):
        engines.failed(restart=False)
        then, pause_s = engines.failed(restart=False)
        assert "none is left, and engine 'int8' is tried again" in then
        assert engines.exhausted
        pauses.append(pause_s)
    assert 0.75 <= pauses[0] <= 1.0
    assert all(0.75 * 2**n <= pause_s <= 2**n for n, pause_s in enumerate(pauses[:6]))
    assert all(0.75 * LONGEST_PAUSE_S <= pause_s <= LONGEST_PAUSE_S for pause_s in pauses[6:])
    for _ in range(STEADY):
        engines.worked()
    assert not engines.exhausted
    engines.failed(restart=False)
    assert engines.failed(restart=False)[1] <= 1.0


def test_the_graphs_stand_in_where_nothing_was_built(
    tiny_bundle: Bundle, bright_frame: np.ndarray
) -> None:
    scene = Scene(brightness=(0.0, 0.1), contrast=(0.0, 0.1))
    assert tiny_bundle.thresholds is not None
    bundle = replace(tiny_bundle, thresholds=replace(tiny_bundle.thresholds, scene=scene))
    [only] = candidates_of(bundle, "", "auto", cameras=1, cores=1)
    assert (only.engine, only.on_gpu) == (None, False)
    inspector = only.open()
    [found] = inspector.collect(inspector.submit([bright_frame]))
    assert found.verdict == "defect", "the cameras look at the scene"
    assert found.image.shape == (3, 32, 32)


def test_an_engine_that_was_named_comes_first_and_the_graphs_follow(tiny_bundle: Bundle) -> None:
    precision: Precision = "fp32"
    built = build(tiny_bundle, precision, find_target("onnxruntime"))
    named = candidates_of(tiny_bundle, built.name, "cpu", cameras=3, cores=2)
    assert [candidate.engine for candidate in named] == [built.name, None]
    assert built.name in named[0].label


@pytest.mark.parametrize("engine", ["", "no-such-engine"])
def test_what_does_not_run_on_a_device_is_refused(tiny_bundle: Bundle, engine: str) -> None:
    with pytest.raises(DadEdgeError) as caught:
        candidates_of(tiny_bundle, engine, "gpu", cameras=1, cores=1)
    assert (engine or "no engine that runs on the gpu") in caught.value.message
    assert isinstance(caught.value, UsageError) or engine


@pytest.mark.parametrize(
    ("cameras", "cores", "lanes", "threads"),
    [(1, 8, 1, 8), (4, 1, 1, 1), (4, 2, 2, 1), (2, 8, 2, 4), (9, 16, 4, 4)],
)
def test_cameras_on_a_cpu_share_its_cores_in_lanes(
    tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch, cameras: int, cores: int, lanes: int,
    threads: int,
) -> None:  # fmt: skip
    opened: list[int] = []

    def stand_in(choice: object, *, threads: int, pictures: bool) -> StandIn:
        opened.append(threads)
        return StandIn()

    monkeypatch.setattr(candidates_module, "open_choice", stand_in)
    [only] = candidates_of(tiny_bundle, "", "auto", cameras=cameras, cores=cores)
    only.open()
    assert (opened, only.lanes) == ([threads], lanes)


def test_servers_come_first_and_then_the_engines_of_this_machine(tiny_bundle: Bundle) -> None:
    address = "triton://a,b:9001/bolts"
    servers, *own = candidates_of(tiny_bundle, address, "auto", cameras=3, cores=2)
    assert servers.label == "Triton at a:8001, b:9001"
    assert (servers.engine, servers.on_gpu, servers.lanes) == (None, True, 1)
    expected = candidates_of(tiny_bundle, "", "auto", cameras=3, cores=2)
    assert [each.label for each in own] == [each.label for each in expected]
    with pytest.raises(UsageError, match="is not HOST or HOST:PORT"):
        candidates_of(tiny_bundle, "triton://", "auto", cameras=1, cores=1)
