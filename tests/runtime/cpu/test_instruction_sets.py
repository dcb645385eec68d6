"""INT8 on CPUs with fewer instructions than this one: oneDNN takes them from its environment.

Without VNNI it adds products of 8 bits in pairs in 16 bits, which saturate. Where oneDNN has no
such switch, as on ARM, or the CPU has no more than is asked for, these are plain tests of INT8.
OpenVINO's own kernels do not follow the switch and refuse to run beside SSE 4.1 in a whole network.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from dad_edge.bundle import DENOISER, ENGINES, PACKAGED, SEGMENTER, open_bundle
from dad_edge.deploy.build import Target, build
from dad_edge.errors import ModelError
from dad_edge.runtime.engines import check_engine
from dad_edge.runtime.sidecar import CPU_PAIR_LIMIT, write_sidecar

pytest.importorskip("openvino", reason="OpenVINO is not installed (extra 'openvino')")

ROOT = Path(__file__).parents[3]
CONVOLUTION = """
<ir_version: 10, opset_import: ["" : 20]>
convolution (float[N,16,8,8] image) => (float[N,16,6,6] sums)
<float step = {1}, int8 zero = {0}> {
    levels = QuantizeLinear(image, step, zero)
    values = DequantizeLinear(levels, step, zero)
    kernels = DequantizeLinear(weights, step, zero)
    sums = Conv(values, kernels)
}
"""
ANSWERS = """
import json, sys
from pathlib import Path
import numpy as np
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine

engine = OpenvinoEngine(Path(sys.argv[1]), threads=1)
levels = (-128, -127, -1, 1, 127)
images = (np.full((1, 16, 8, 8), level, np.float32) for level in levels)
print(json.dumps({level: engine.run({"image": image})["sums"][0, :, 3, 3].tolist()
    for level, image in zip(levels, images)}))
"""
"""Sums of every channel where all activations are on one level."""
ERRORS = """
import json, sys
from pathlib import Path
import numpy as np
from dad_edge.runtime.cpu.engine_onnx import OnnxEngine
from dad_edge.runtime.cpu.engine_openvino import OpenvinoEngine

bundle, folder, inputs = map(Path, sys.argv[1:])

def answer(engine, tensors):
    return next(iter(engine.run(tensors).values())).copy()

found = {}
for path in sorted(inputs.glob("*.npz")):
    graph = f"{path.stem}.onnx"
    tensors = dict(np.load(path))
    full = answer(OnnxEngine(bundle / graph, threads=1), tensors)
    engines = OnnxEngine(folder / graph, threads=1), OpenvinoEngine(folder / graph, threads=1)
    found[graph] = [float(np.abs(answer(one, tensors) - full).mean()) for one in engines]
print(json.dumps(found))
"""
"""Mean errors of both networks in INT8: on ONNX Runtime, on OpenVINO."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Path]:
    """The shipped bundle with an INT8 engine of OpenVINO, its name, and inputs of both networks."""
    folder = tmp_path_factory.mktemp("int8")
    bundle = open_bundle(shutil.copytree(PACKAGED, folder / "bundle"))
    name = build(bundle, "int8", Target(runtime="openvino")).name
    rng, size = np.random.default_rng(0), bundle.model.image_size
    inputs = folder / "inputs"
    inputs.mkdir()
    rows = len(bundle.model.lambdas)
    drawn = rng.standard_normal((rows, 3, size, size)).astype(np.float32)
    np.savez(inputs / Path(DENOISER).with_suffix(".npz"), x_t=drawn)
    image = rng.random((rows, 3, 1, 1), np.float32) * np.ones((1, 1, size, size), np.float32)
    pair = np.concatenate([image, (image + 0.1 * drawn).clip(0, 1)], axis=1)
    np.savez(inputs / Path(SEGMENTER).with_suffix(".npz"), pair=pair)
    return bundle.path, name, inputs


def run_with(most: str, script: str, *arguments: Path) -> Any:
    """What a script prints where oneDNN may use no more than these instructions."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "ONEDNN_MAX_CPU_ISA": most}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("most", ["ALL", "AVX512_CORE", "AVX2", "SSE41"])
def test_a_convolution_at_the_limit_is_exact(tmp_path: Path, most: str) -> None:
    """Whichever weights become neighbours: both 64, or 127 beside 1; twice as much saturates."""
    weights = np.full((16, 16, 3, 3), CPU_PAIR_LIMIT // 2, np.int8)
    weights[1::3] = -64
    weights[2::3] = 1
    for channel in range(2, 16, 3):
        weights[channel, channel, channel % 3, 0] = (-1) ** channel * 127
    model = onnx.parser.parse_model(CONVOLUTION)
    model.graph.initializer.append(numpy_helper.from_array(weights, "weights"))
    onnx.save(model, tmp_path / "convolution.onnx")
    found = run_with(most, ANSWERS, tmp_path / "convolution.onnx")
    sums = weights.astype(int).sum(axis=(1, 2, 3))
    for level, answer in found.items():
        assert answer == [float(int(level) * total) for total in sums]


@pytest.mark.parametrize("most", ["ALL", "AVX512_CORE", "AVX2"])
def test_int8_costs_what_it_costs_in_onnx_runtime(built: tuple[Path, str, Path], most: str) -> None:
    """Which computes these graphs in float. Sums that saturate cost six times as much."""
    bundle, name, inputs = built
    errors = run_with(most, ERRORS, bundle, bundle / ENGINES / name, inputs)
    assert errors.keys() == {DENOISER, SEGMENTER}
    for expected, error in errors.values():
        # Values on the edge between two levels fall on either, so that the errors are not equal.
        assert 0 < error < 2 * expected


def test_an_engine_of_before_is_refused(built: tuple[Path, str, Path]) -> None:
    path, name, _ = built
    bundle = open_bundle(path)
    sidecar = check_engine(bundle, name)
    assert sidecar.pair_limit == CPU_PAIR_LIMIT
    folder = path / ENGINES / name
    write_sidecar(folder, replace(sidecar, pair_limit=None))
    with pytest.raises(ModelError, match="too large for CPUs without VNNI") as caught:
        check_engine(bundle, name)
    assert "dad-edge build --precision int8 --runtime openvino" in caught.value.next_step
    write_sidecar(folder, sidecar)
    check_engine(bundle, name)
