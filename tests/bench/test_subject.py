"""What is measured of an engine, and what is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from proofs import accept
from tiny import TINY

from dad_edge.bench.case import Case
from dad_edge.bench.subject import open_case
from dad_edge.bundle import Bundle, open_bundle, write_thresholds
from dad_edge.deploy.build import Target, build
from dad_edge.image.scene import Scene
from dad_edge.runtime.inspector import open_inspector


def test_the_scene_is_in_no_time(tiny_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tiny_bundle.thresholds is not None
    scene = Scene(brightness=(0.5, 1), contrast=(0, 1))
    write_thresholds(tiny_bundle, replace(tiny_bundle.thresholds, scene=scene))
    bundle = open_bundle(tiny_bundle.path)
    built = accept(bundle, build(bundle, "fp16", Target(runtime="onnxruntime"))).name
    black = np.zeros((48, 48, 3), np.uint8)
    assert open_inspector(bundle, engine=built).inspect(black).verdict == "invalid"

    def refuse(*_: Any) -> None:
        raise AssertionError("the scene was measured")

    monkeypatch.setattr("dad_edge.runtime.inspection.look_at", refuse)
    for engine in (None, built):
        precision = "fp16" if engine else "fp32"
        own = Case(
            model=TINY, bundle=bundle, engine="ONNX Runtime", precision=precision, built=engine
        )
        with open_case(own, [black]) as subject:
            assert subject.call(0)
