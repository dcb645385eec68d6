"""The TensorRT builder: its API in four versions by name, and TensorRT-RTX for real."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import onnx
import pytest
from onnx import helper
from small_networks import make_network_bundle, small_denoiser, small_segmenter, write_images

from dad_edge.bundle import ENGINES, open_bundle
from dad_edge.data.layouts import list_items
from dad_edge.deploy import plan
from dad_edge.deploy.build import Target, build, find_target
from dad_edge.deploy.calibrate import calibrate
from dad_edge.deploy.phases import BuildLog
from dad_edge.deploy.plan import PlanJob, build_plan
from dad_edge.errors import DeviceError, Interrupted, ModelError, UsageError
from dad_edge.graphs.quantize import to_fp16
from dad_edge.kernels.compile import KERNELS
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import Progress, silent
from dad_edge.runtime.engines import check_engine
from dad_edge.runtime.gpu.tensorrt_api import tensorrt_logger
from dad_edge.runtime.sidecar import KERNEL_FOLDER, BuilderOptions, read_sidecar

API = json.loads((Path(__file__).parents[1] / "support" / "tensorrt_api.json").read_text())
"""Version → class → members, read from the bindings' wheels."""
VARIABLES = {
    "builder": "Builder",
    "config": "IBuilderConfig",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "profile": "IOptimizationProfile",
    "source": "ITensor",
    "e": "ParserError",
    "cache": "ITimingCache",
    "trt": "module",
}
"""What the variables of the module hold."""

rtx = pytest.mark.skipif(
    importlib.util.find_spec("tensorrt_rtx") is None, reason="tensorrt_rtx is not installed"
)


def _used_members() -> Iterator[tuple[str, str]]:
    """(class, member) of every TensorRT name in the plan module that all versions must have."""
    tree = ast.parse(Path(plan.__file__).read_text(encoding="utf-8"))
    for function in tree.body:
        if not isinstance(function, ast.FunctionDef):
            continue
        if function.name in ("_set_rtx_options", "supported_capabilities"):
            continue  # of TensorRT-RTX alone; the builds below run them
        for node in ast.walk(function):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                if owner := VARIABLES.get(node.value.id):
                    yield owner, node.attr
            elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute):
                inner = node.value
                if isinstance(inner.value, ast.Name) and inner.value.id == "trt":
                    yield inner.attr, node.attr
            elif isinstance(node, ast.ClassDef):
                for base in node.bases:
                    assert isinstance(base, ast.Attribute)
                    for method in node.body:
                        if isinstance(method, ast.FunctionDef):
                            yield base.attr, method.name


@pytest.mark.parametrize("version", sorted(API))
def test_every_api_member_in_use_exists(version: str) -> None:
    used = {(owner, name) for owner, name in _used_members() if name != "__init__"}
    assert len(used) > 20
    for owner, name in sorted(used):
        assert name in API[version][owner], f"TensorRT {version} has no {owner}.{name}"


def _plan(
    model: onnx.ModelProto,
    capability: str = "8.6",
    profiles: tuple[tuple[int, int, int], ...] = ((2, 2, 16),),
    progress: Progress = silent,
) -> bytes:
    job = PlanJob(
        name=model.graph.name,
        runtime="tensorrt-rtx",
        profiles=profiles,
        capabilities=(capability,),
        options=BuilderOptions(workspace_mib=64),
    )
    with StopRequest() as stop:
        return build_plan(job, model.SerializeToString(), stop, progress, BuildLog(io.StringIO()))


@rtx
@pytest.mark.tensorrt
def test_every_batch_size_may_have_its_profile() -> None:
    shares: list[float] = []
    profiles = Target(runtime="tensorrt", capabilities=("8.6",)).profiles
    rows = tuple((2 * low, 2 * best, 2 * most) for low, best, most in profiles)
    assert len(rows) == 4
    _plan(to_fp16(small_denoiser()), profiles=rows, progress=lambda share, *_: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] > 0.9


@rtx
@pytest.mark.tensorrt
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_both_networks_build_ahead_of_time_without_a_gpu(tmp_path: Path, precision: str) -> None:
    bundle = make_network_bundle(tmp_path / "bundle")
    calibrate(bundle, list_items(write_images(tmp_path / "good", 2), "train"))
    bundle = open_bundle(bundle.path)
    notes: set[str] = set()
    target = find_target(capabilities=("8.6", "8.9", "12.0"))
    sidecar = build(bundle, precision, target, lambda done, total, note: notes.add(note))  # type: ignore[arg-type]
    assert sidecar.name.startswith("sm86-sm89-sm120-tensorrt-rtx-")
    assert read_sidecar(bundle, sidecar.name) == sidecar
    folder = bundle.path / ENGINES / sidecar.name
    assert (folder / "denoiser.plan").read_bytes()[4:] != (folder / "segmenter.plan").read_bytes()
    assert "segmenter.onnx: Building engine" in notes
    assert "Engine generation completed" in (folder / "build.log").read_text()
    assert sidecar.profiles == ((1, 1, 8),)
    suffixes = sorted(p.suffix for p in folder.iterdir() if p.is_file())
    assert suffixes == [".json", ".log", ".plan", ".plan"]
    kernels = {f"{k}-{arch}.cubin" for k in KERNELS for arch in ("sm_86", "sm_89", "sm_120")}
    assert {p.name for p in (folder / KERNEL_FOLDER).iterdir()} == kernels == set(sidecar.kernels)
    with pytest.raises(DeviceError, match="cannot run here"):
        check_engine(bundle, sidecar.name)


@rtx
@pytest.mark.tensorrt
def test_plans_of_rtx_can_be_captured_in_a_cuda_graph() -> None:
    """They take all memory from the caller; a plan that cannot would not build."""
    import tensorrt_rtx as trt

    config = trt.Builder(tensorrt_logger("tensorrt-rtx")).create_builder_config()
    plan._set_rtx_options(trt, config, ("8.9",))
    assert config.get_flag(trt.BuilderFlag.REQUIRE_USER_ALLOCATION)


@rtx
@pytest.mark.tensorrt
def test_the_parser_gives_its_own_reason() -> None:
    model = small_segmenter()
    model.graph.node[1].op_type = "NoSuchOperator"
    with pytest.raises(ModelError, match=r"cannot read segmenter: .*NoSuchOperator"):
        _plan(model)


@rtx
@pytest.mark.tensorrt
def test_a_build_shows_the_reason_of_the_parser_in_its_process(tmp_path: Path) -> None:
    """An operator of the ONNX standard that TensorRT does not have."""
    segmenter = small_segmenter()
    last = segmenter.graph.node[-1]
    assert list(last.output) == ["mask"]
    last.output[0] = "chance"
    segmenter.graph.node.append(helper.make_node("Bernoulli", ["chance"], ["mask"], "throw"))
    bundle = make_network_bundle(tmp_path / "bundle", segmenter)
    with pytest.raises(ModelError, match=r"cannot read segmenter.onnx: .*Bernoulli") as caught:
        build(bundle, "fp16", find_target(capabilities=("8.6",)))
    assert list((bundle.path / ENGINES).iterdir()) == []
    (log,) = (bundle.path / "reports").glob("*/build.log")
    assert "Bernoulli" in log.read_text()
    # The command that the error names finds the very node.
    pytest.importorskip("polygraphy", reason="Polygraphy is not installed (extra 'debug')")
    command = caught.value.next_step.partition("is found by: ")[2]
    tools = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    subprocess.run(command, shell=True, cwd=tmp_path, env=tools, check=True, capture_output=True)
    reduced = onnx.load(log.with_name("segmenter-reduced.onnx"))
    assert [node.op_type for node in reduced.graph.node] == ["Bernoulli"]


@rtx
@pytest.mark.tensorrt
def test_mixed_types_are_refused_with_the_reason() -> None:
    model = to_fp16(small_denoiser())
    node = next(n for n in model.graph.node if n.op_type == "Mul")
    node.input[1] = "gamma_single"
    gamma = next(w for w in small_denoiser().graph.initializer if w.name == "gamma")
    gamma.name = "gamma_single"
    model.graph.initializer.append(gamma)
    with pytest.raises(ModelError, match=r"cannot read denoiser: .*must have same input types"):
        _plan(model)


@rtx
@pytest.mark.tensorrt
def test_an_asymmetric_zero_point_is_refused_with_the_reason() -> None:
    from dad_edge.graphs.quantize import to_int8

    model = to_int8(small_denoiser(), {"down": (-1.0, 1.0), "both": (-1.0, 1.0)})
    zero = next(w for w in model.graph.initializer if w.name == "down_zero")
    zero.CopyFrom(helper.make_tensor("down_zero", onnx.TensorProto.INT8, [], [3]))
    with pytest.raises(ModelError, match=r"cannot read denoiser: .*[Zz]ero.?[Pp]oint"):
        _plan(model)


@rtx
@pytest.mark.tensorrt
def test_an_unknown_compute_capability_lists_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"capability 8\.7; it knows .*8\.6, 8\.9, 12\.0"):
        _plan(small_segmenter(), "8.7")


@rtx
@pytest.mark.tensorrt
def test_a_signal_cancels_the_builder() -> None:
    with pytest.raises(Interrupted) as caught:
        _plan(small_segmenter(), progress=lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert caught.value.exit_code == 128 + signal.SIGTERM
