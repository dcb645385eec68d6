"""Rows of TensorRT engines, on the fake device that runs the real kernels."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from fake_cuda import FakeDriver

from dad_edge.bench import study
from dad_edge.bench.cases import plan_rows
from dad_edge.bench.study import run_study
from dad_edge.bundle import Bundle
from dad_edge.runtime.gpu import tensorrt_api
from dad_edge.runtime.inspection import STAGES
from tests.runtime.test_engines_gpu import add_engine, bundle, cubins, trt

__all__ = ["bundle", "cubins", "trt"]  # fixtures


def test_an_engine_is_measured_with_and_without_its_copies(
    bundle: Bundle, cubins: Path, trt: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = add_engine(bundle, cubins).name
    (row,) = run_study(bundle, engine=name, seconds=0.1).rows
    assert (row.engine, row.device, row.precision) == ("TensorRT", "cuda", "fp16")
    assert row.backend == "CUDA kernels on Fake GPU + TensorRT 10.3.0 fp16"
    assert tuple(row.stages) == STAGES
    assert row.roof_fps is None, "nothing here measures a GPU's peak"


@pytest.mark.parametrize("cameras", [1, 2])
def test_the_bundles_own_engine_is_taken_before_one_is_built(
    bundle: Bundle,
    cubins: Path,
    trt: ModuleType,
    driver: FakeDriver,
    cameras: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = {"gpus": [{"compute_capability": "8.9"}], "reason": None}
    monkeypatch.setattr(tensorrt_api, "describe_nvidia", lambda: found)
    add_engine(bundle, cubins)
    rows = [
        plan
        for plan in plan_rows("all", bundle, device="cuda")
        if (plan.case.engine, plan.case.precision) == ("TensorRT", "fp16")
        and (plan.case.cameras, plan.case.batch) == (cameras, 1)
        and plan.case.bundle is not None
        and not plan.case.decode
    ]
    assert len(rows) == 1
    monkeypatch.setattr(study, "plan_rows", lambda *given, **named: rows)
    result = run_study(bundle, seconds=0.1)
    assert result.not_measured == ()
    assert result.rows[0].weights == "bundle"
    assert result.rows[0].cameras == cameras
    assert not any(driver.live.values()), "everything was given back"
