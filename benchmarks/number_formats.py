"""FP16 and INT8 beside formats that are not offered, BF16 and FP8: accuracy, and which runtimes.

    python -m benchmarks.number_formats --out benchmarks/results
    python -m benchmarks.number_formats --bundle bundle --data DIR --out benchmarks/results

Accuracy against FP32 on the test split, on the CPU. FP16 and INT8 are the graphs that engines are
built from. BF16 is FP32 rounded to BF16 after every operator and in every weight. FP8 is E4M3 in
the place of INT8: scales carry the largest magnitude to 448, per tensor and per output channel.
ONNX Runtime and the TensorRT-RTX builder are asked whether they take each format.
Writes formats_<data>_<device>_<date>.json.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from benchmarks.against_fp32 import arguments, differences, judge, run
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.data.layouts import list_items
from dad_edge.deploy.plan import PlanJob
from dad_edge.deploy.process import build_in_process
from dad_edge.errors import DadEdgeError
from dad_edge.gate.sensitivity import ranges_of
from dad_edge.graphs.fp16_range import activation_peaks
from dad_edge.graphs.quantize import INT8_LIMIT, load_graph, to_fp16, to_int8
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import silent
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.opening import open_graphs

FP8_LIMIT = 448.0
CAPABILITIES = ("8.6", "8.9", "12.0")
ROWS = (2, 2, 16)

Graph = onnx.ModelProto


class PlainEngine:
    """A graph on ONNX Runtime as it is: nothing is fused, so that no rounding is lost."""

    def __init__(self, graph: Graph) -> None:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = 3
        self.name = f"ONNX Runtime {onnxruntime.__version__} CPU, not optimised"
        self._session = onnxruntime.InferenceSession(
            graph.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        self._outputs = [output.name for output in graph.graph.output]

    def run(self, inputs: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
        return dict(zip(self._outputs, self._session.run(self._outputs, inputs), strict=True))


def rounded_to_bf16(model: Graph) -> Graph:
    """FP32 arithmetic with every weight and the result of every operator rounded to BF16."""
    typed = onnx.shape_inference.infer_shapes(model).graph
    single = {
        value.name
        for value in (*typed.value_info, *typed.output)
        if value.type.tensor_type.elem_type == TensorProto.FLOAT
    }
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for weight in graph.initializer:
        if weight.data_type == TensorProto.FLOAT:
            values = _to_bf16(numpy_helper.to_array(weight))
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    nodes = []
    for node in graph.node:
        made = [name for name in node.output if name in single]
        for index, name in enumerate(node.output):
            if name in single:
                node.output[index] = f"{name}_exact"
        nodes.append(node)
        for name in made:
            short = f"{name}_bf16"
            nodes.append(
                helper.make_node("Cast", [f"{name}_exact"], [short], to=TensorProto.BFLOAT16)
            )
            nodes.append(helper.make_node("Cast", [short], [name], to=TensorProto.FLOAT))
    graph.ClearField("node")
    graph.node.extend(nodes)
    graph.ClearField("value_info")
    return result


def _to_bf16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round to nearest, ties to even."""
    bits = np.atleast_1d(values).astype(np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    upper_half = rounded & np.uint32(0xFFFF0000)
    return upper_half.view(np.float32).reshape(values.shape)


def to_bf16(model: Graph) -> Graph:
    """The typed graph of an engine with BF16 in the place of FP16."""
    half = to_fp16(model)
    exact = {f"{w.name}_fp16": numpy_helper.to_array(w) for w in model.graph.initializer}
    for weight in half.graph.initializer:
        if weight.data_type == TensorProto.FLOAT16:
            bits = _to_bf16(exact[weight.name]).view(np.uint32) >> np.uint32(16)
            weight.CopyFrom(
                helper.make_tensor(
                    weight.name,
                    TensorProto.BFLOAT16,
                    exact[weight.name].shape,
                    bits.astype(np.uint16).tobytes(),
                    raw=True,
                )
            )
    for node in half.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.i == TensorProto.FLOAT16:
                attribute.i = TensorProto.BFLOAT16
    half.graph.ClearField("value_info")
    return half


def to_fp8(model: Graph, ranges: dict[str, tuple[float, float]]) -> Graph:
    """The graph of INT8 with FP8 (E4M3) in its place."""
    result = to_int8(model, ranges)
    originals = {w.name: numpy_helper.to_array(w) for w in model.graph.initializer}
    eight = helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E4M3FN)
    scales: dict[str, NDArray[np.float32]] = {}
    for weight in result.graph.initializer:
        if weight.name.endswith("_scale"):
            values = numpy_helper.to_array(weight) * np.float32(INT8_LIMIT / FP8_LIMIT)
            scales[weight.name] = values
            weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    for weight in result.graph.initializer:
        if weight.data_type == TensorProto.INT8:
            values = np.zeros(tuple(weight.dims), np.float32)
            if weight.name.endswith("_q"):
                name = weight.name.removesuffix("_q")
                exact = originals[name] / scales[f"{name}_scale"][:, None, None, None]
                values = exact.clip(-FP8_LIMIT, FP8_LIMIT).astype(np.float32)
            weight.CopyFrom(numpy_helper.from_array(values.astype(eight), weight.name))
    result.graph.ClearField("value_info")
    return result


def taken_by_onnxruntime(graph: Graph) -> str:
    """`yes`, or the reason why not."""
    try:
        PlainEngine(graph)
    except Exception as error:  # ONNX Runtime's own exception types share no public base
        return " ".join(str(error).split())[:300]
    return "yes"


def taken_by_tensorrt_rtx(graph: Graph, name: str, capability: str) -> str | int:
    """Bytes of the plan, or the reason why there is none."""
    job = PlanJob(name=name, runtime="tensorrt-rtx", profiles=(ROWS,), capabilities=(capability,))
    with tempfile.TemporaryDirectory() as folder, StopRequest() as stop:
        path = Path(folder) / "network.plan"
        try:
            return build_in_process(job, graph.SerializeToString(), path, stop, silent).bytes
        except DadEdgeError as error:
            return error.message.replace(folder, "")[:300]


def run_study(bundle: Bundle, data: Path) -> dict[str, Any]:
    """Accuracy and acceptance of every format."""
    test = list_items(data, "test")
    reference = open_graphs(bundle)
    before = judge(reference, test)
    ops = NumpyOps(bundle.model, bundle.manifest.alpha_bar)
    graphs = {name: load_graph(bundle.path / name) for name in (DENOISER, SEGMENTER)}

    def int8(name: str) -> Graph:
        return to_int8(graphs[name], ranges_of(bundle, name))

    def fp8(name: str) -> Graph:
        return to_fp8(graphs[name], ranges_of(bundle, name))

    computed: dict[str, Callable[[str], Graph]] = {
        "fp16": lambda name: to_fp16(graphs[name]),
        "bf16": lambda name: rounded_to_bf16(graphs[name]),
        "int8": int8,
        "fp8": fp8,
    }
    built: dict[str, Callable[[str], Graph]] = {
        "fp16": lambda name: to_fp16(graphs[name]),
        "bf16": lambda name: to_bf16(graphs[name]),
        "int8": lambda name: to_fp16(int8(name)),
        "fp8": lambda name: to_fp16(fp8(name)),
    }
    rows = []
    for name, make in computed.items():
        engines = (PlainEngine(make(DENOISER)), PlainEngine(make(SEGMENTER)))
        inspector = HostInspector(ops, *engines, reference.threshold, ignore=bundle.ignore)
        row: dict[str, Any] = {"format": name}
        row |= differences(before, judge(inspector, test), reference.threshold)
        row["onnxruntime"] = taken_by_onnxruntime(built[name](SEGMENTER))
        row["tensorrt_rtx"] = {
            capability: {
                network: taken_by_tensorrt_rtx(built[name](network), network, capability)
                for network in graphs
            }
            for capability in CAPABILITIES
        }
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    peaks = activation_peaks(bundle)
    name, (peak, frame) = next(iter(peaks.items()))
    return {
        "test_images": len(test),
        "fp32": {"image_auroc": before.auroc, "pro": before.pro},
        "threshold": reference.threshold,
        "largest_activation": {"tensor": name, "magnitude": round(peak, 3), "frame": frame},
        "rows": rows,
    }


def main() -> None:
    print(run("formats", arguments(__doc__).parse_args(), run_study))


if __name__ == "__main__":
    main()
