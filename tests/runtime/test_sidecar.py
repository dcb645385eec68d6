from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import typer.main

from dad_edge.bundle import ENGINES, REPORTS, Bundle
from dad_edge.cli.main import app
from dad_edge.errors import ModelError, UsageError
from dad_edge.runtime.sidecar import (
    SIDECAR,
    SIDECAR_FORMAT,
    BuilderOptions,
    EngineFile,
    Gate,
    LayerChoice,
    Sidecar,
    judge_command,
    plan_differences,
    read_sidecar,
    rebuild_command,
    write_sidecar,
)

PROFILES = ((1, 1, 1), (2, 2, 2), (3, 4, 4))


def _sidecar(device: str = "sm87", version: str = "10.3.0", **options: object) -> Sidecar:
    return Sidecar(
        format=SIDECAR_FORMAT,
        runtime="tensorrt",
        runtime_version=version,
        device=device,
        precision="int8",
        onnx_sha256={},
        files={},
        profiles=PROFILES,
        options=BuilderOptions(**options),  # type: ignore[arg-type]
        platform="Linux-aarch64",
        build_seconds=1.0,
        peak_memory_mib=1.0,
        gate=Gate(),
    )


def test_a_plan_that_names_no_platform_fits_none() -> None:
    here = {"version": "10.3.0", "capability": "8.7", "platform": "Linux-aarch64"}
    there = {"gpu": "Orin", "multiprocessors": 16}
    unnamed = replace(_sidecar(), platform="")
    assert plan_differences(_sidecar(), **here, **there) == []  # type: ignore[arg-type]
    (found,) = plan_differences(unnamed, **here, **there)  # type: ignore[arg-type]
    assert found == "built for , here is Linux-aarch64"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kernels": {"../inject.cubin": "0" * 64}}, "'../inject.cubin' is no file of the engine"),
        ({"runtime_version": "newest"}, "runtime_version 'newest' is not one"),
        ({"device": "sm"}, "device 'sm' is not one"),
        ({"profiles": ((1, 4, 2),)}, r"a profile must ascend from at least 1, got \[1, 4, 2\]"),
        ({"profiles": ((0, 1, 1),)}, "a profile must ascend"),
    ],
)
def test_a_sidecar_without_sense_is_refused(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        replace(_sidecar(), **changes)
    assert "build the engine again" in caught.value.next_step


def test_a_file_of_an_engine_lies_in_its_folder() -> None:
    with pytest.raises(UsageError, match="'/dev/zero' is no file of the engine"):
        EngineFile(name="/dev/zero", sha256="0" * 64, bytes=1)


def test_a_sidecar_that_was_edited_is_refused_with_its_place(tiny_bundle: Bundle) -> None:
    sidecar = replace(_sidecar(), files={"a": EngineFile(name="a", sha256="0", bytes=1)})
    folder = tiny_bundle.path / ENGINES / sidecar.name
    write_sidecar(folder, sidecar)
    assert read_sidecar(tiny_bundle, sidecar.name) == sidecar
    text = (folder / SIDECAR).read_text()
    (folder / SIDECAR).write_text(text.replace('"bytes": 1', '"bytes": "1"'))
    with pytest.raises(ModelError, match=r"engine\.json\.files\.a\.bytes: expected int, got '1'"):
        read_sidecar(tiny_bundle, sidecar.name)
    (folder / SIDECAR).write_text(text.replace('"name": "a"', '"name": ".."'))
    with pytest.raises(ModelError, match=r"engine\.json\.files\.a: '\.\.' is no file"):
        read_sidecar(tiny_bundle, sidecar.name)


def _differences(
    sidecar: Sidecar,
    version: str = "10.3.0",
    capability: str = "8.7",
    platform: str = "Linux-aarch64",
    multiprocessors: int = 16,
) -> list[str]:
    return plan_differences(
        sidecar,
        version=version,
        capability=capability,
        platform=platform,
        gpu="Orin",
        multiprocessors=multiprocessors,
    )


def test_a_plan_fits_where_everything_is_as_it_was() -> None:
    assert _differences(_sidecar()) == []


def test_every_difference_is_named() -> None:
    found = _differences(_sidecar("sm86-sm89"), "10.16.1", "8.7", "Linux-x86_64")
    assert found == [
        "built with tensorrt 10.3.0, here is 10.16.1",
        "built for compute capability 8.6 and 8.9, here is 8.7",
        "built for Linux-aarch64, here is Linux-x86_64",
    ]


def test_a_plan_stays_on_the_kind_of_gpu_that_it_was_tuned_on() -> None:
    plan = replace(_sidecar(), gpu="Orin", multiprocessors=16)
    assert _differences(plan) == []
    assert _differences(plan, multiprocessors=8) == [
        "built on Orin with 16 multiprocessors, here is Orin with 8"
    ]
    assert "here is Orin" in _differences(replace(plan, gpu="Thor"))[0]
    assert _differences(_sidecar(), multiprocessors=8) == [], "an older sidecar does not say"


def test_a_version_compatible_plan_runs_on_later_minor_versions_only() -> None:
    plan = _sidecar(version="10.3.0", version_compatible=True)
    assert _differences(plan, "10.16.1.11") == []
    assert "here is 11.0.0" in _differences(plan, "11.0.0")[0]
    assert "here is 10.2.0" in _differences(plan, "10.2.0")[0]


def test_a_hardware_compatible_plan_runs_from_ampere_on() -> None:
    plan = _sidecar("ampere-plus", hardware_compatible=True)
    assert _differences(plan, capability="12.0") == []
    assert "from compute capability 8.0 on, here is 7.5" in _differences(plan, capability="7.5")[0]


def test_the_command_to_rebuild_is_one_that_exists_and_keeps_the_options() -> None:
    command = rebuild_command(_sidecar(workspace_mib=512, version_compatible=True))
    assert command == (
        "dad-edge build --precision int8 --runtime tensorrt --frames 1 --frames 2 --frames 4 "
        "--workspace-mib 512 --version-compatible"
    )
    kept = LayerChoice(float_layers={}, max_drop=0.5)
    assert rebuild_command(replace(_sidecar(), layers=kept)).endswith(
        "--max-drop 0.5 --data FOLDER"
    )
    context = (
        typer.main.get_command(app)
        .commands["build"]
        .make_context(  # type: ignore[attr-defined]
            "build", command.split()[2:]
        )
    )
    assert list(context.params["frames"]) == [1, 2, 4]
    assert context.params["version_compatible"] is True


def _written(bundle: Bundle, gate: dict[str, Any], report: str | None) -> Gate:
    """The gate of an engine as it is read from a bundle."""
    sidecar = _sidecar()
    folder = bundle.path / ENGINES / sidecar.name
    folder.mkdir(parents=True, exist_ok=True)
    write_sidecar(folder, sidecar)
    mapping = json.loads((folder / "engine.json").read_text()) | {"gate": gate}
    (folder / "engine.json").write_text(json.dumps(mapping))
    if report is not None:
        path = bundle.path / REPORTS / sidecar.name / "verify.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(report)
    return read_sidecar(bundle, sidecar.name).gate


def test_gates_of_before_are_read(tiny_bundle: Bundle) -> None:
    told = [
        _written(tiny_bundle, {"passed": passed, "reason": "-"}, None).outcome
        for passed in (True, False, None)
    ]
    assert told == ["passed", "failed", "not judged"]


@pytest.mark.parametrize(
    ("report", "outcome"),
    [
        ('{"passed": true, "auroc_drop": null, "pro_drop": null}', "not judged"),
        ('{"passed": true, "auroc_drop": 0.0, "pro_drop": null}', "not judged"),
        ('{"passed": true, "auroc_drop": 0.0, "pro_drop": 0.001}', "passed"),
        ("{", "passed"),
    ],
)
def test_an_engine_that_passed_without_figures_is_not_judged(
    tiny_bundle: Bundle, report: str, outcome: str
) -> None:
    assert _written(tiny_bundle, {"passed": True, "reason": "passed"}, report).outcome == outcome
    failed = _written(tiny_bundle, {"passed": False, "reason": "mask error"}, report)
    assert failed == Gate(passed=False, reason="mask error")


def test_the_command_that_judges_an_engine_is_one_that_exists() -> None:
    command = judge_command("cpu-openvino-1.2.3-int8").split()
    context = (
        typer.main.get_command(app)
        .commands["verify"]
        .make_context(  # type: ignore[attr-defined]
            "verify", command[2:]
        )
    )
    assert context.params["engine"] == "cpu-openvino-1.2.3-int8"
