from __future__ import annotations

from pathlib import Path

import pytest
from small_networks import make_network_bundle, write_marked_data

from build_engines.build_all import TARGETS, TargetFile, build_target, main, target_of
from dad_edge.config import read_toml
from dad_edge.errors import DeviceError, ModelError
from dad_edge.runtime.engines import CPU_RUNTIMES
from dad_edge.runtime.sidecar import list_engines


@pytest.mark.parametrize("path", sorted(TARGETS.glob("*.toml")), ids=lambda p: p.stem)
def test_every_target_is_readable_and_names_its_gpus(path: Path) -> None:
    target = read_toml(TargetFile, path)
    assert target.precisions
    assert bool(target.compute_capabilities) == (target.runtime not in CPU_RUNTIMES)


def test_a_target_may_set_the_builders_options(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text(
        'runtime = "tensorrt"\nprecisions = ["fp16"]\ncompute_capabilities = ["9.0"]\n'
        "frames = [8]\n[options]\nversion_compatible = true\noptimization_level = 5\n"
    )
    assert read_toml(TargetFile, tmp_path / "new.toml").commands == [
        "dad-edge build --precision fp16 --runtime tensorrt --frames 8 --optimization-level 5 "
        "--version-compatible"
    ]


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "new.toml").write_text('runtime = "onnxruntime"\nprecision = ["fp16"]\n')
    with pytest.raises(ModelError, match="unknown key 'precision'"):
        read_toml(TargetFile, tmp_path / "new.toml")


def test_a_target_for_another_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dad_edge.deploy.build.load_tensorrt", lambda runtime: None)
    monkeypatch.setattr("dad_edge.deploy.build.local_capability", lambda: "8.9")
    monkeypatch.setattr("build_engines.build_all.local_capability", lambda: "8.9")
    with pytest.raises(DeviceError, match=r"capability 8\.9, the target needs 8\.7"):
        target_of(read_toml(TargetFile, TARGETS / "orin-nano.toml"))


def test_targets_that_cannot_be_built_here_are_skipped_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*args: object, **kwargs: object) -> None:
        raise DeviceError("no NVIDIA GPU can be used here.", "-")

    monkeypatch.setattr("build_engines.build_all.target_of", absent)
    bundle = make_network_bundle(tmp_path / "bundle")
    assert build_target(bundle, TARGETS / "thor.toml")
    assert capsys.readouterr().out.splitlines() == [
        "thor: cannot be built here, no NVIDIA GPU can be used here. On the device:",
        "    dad-edge build --precision fp16 --runtime tensorrt",
        "    dad-edge build --precision int8 --runtime tensorrt",
    ]


def test_the_list_says_what_can_be_built_here_and_builds_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--list"]) == 0
    printed = capsys.readouterr().out
    assert "cpu: can be built here\n    dad-edge build --precision fp32 --runtime onnx" in printed
    assert "orin-nano: cannot be built here, " in printed
    assert "--precision int8 --runtime tensorrt --frames 1 --frames 2\n" in printed
    assert printed.count("\n    dad-edge build") > 15


def test_the_cpu_target_is_built_until_calibration_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    data = write_marked_data(bundle, tmp_path / "data")
    assert main(["--target", "cpu", "--bundle", str(bundle.path), "--data", str(data)]) == 4
    printed = capsys.readouterr()
    assert printed.out.count("accuracy gate passed") == 2
    assert "dad-edge calibrate --data" in printed.err
    assert [name.rsplit("-", 1)[1] for name in list_engines(bundle)] == ["fp16", "fp32"]


def test_an_engine_that_is_not_judged_is_not_accepted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dad_edge.gate.images.DEMO_PAIRS", 1)
    (tmp_path / "half.toml").write_text('runtime = "onnxruntime"\nprecisions = ["fp16"]\n')
    bundle = make_network_bundle(tmp_path / "bundle")
    assert not build_target(bundle, tmp_path / "half.toml")
    printed = capsys.readouterr().out
    assert "half: the accuracy gate cannot judge cpu-onnxruntime" in printed
    assert "half: run 'dad-edge verify --engine cpu-onnxruntime" in printed
