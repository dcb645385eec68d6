"""What the layers of TensorRT-RTX plans move through memory, by the builder's own list of them.

    python -m benchmarks.engine_traffic --sizes nano edge --out benchmarks/results

Builds both networks of every size in every form, as exported and as `dad-edge build` writes them
for TensorRT, for one frame and every architecture. Needs PyTorch to export and TensorRT-RTX, but no
GPU. Writes traffic_<sizes>_<device>_<date>.json and prints the rows as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

import onnx

from benchmarks.ahead_of_time import guessed
from benchmarks.naming import result_file
from dad_edge.bench.untrained import untrained_bundle
from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, Bundle, open_bundle
from dad_edge.config import RECIPES, SizeName
from dad_edge.deploy.plan import PlanJob
from dad_edge.deploy.process import build_in_process
from dad_edge.deploy.traffic import Traffic
from dad_edge.errors import DadEdgeError
from dad_edge.files import write_json
from dad_edge.graphs.quantize import Ranges, load_graph, to_fp16, to_int8
from dad_edge.graphs.tensorrt import for_tensorrt
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import silent
from dad_edge.runtime.engines import rows_of
from dad_edge.runtime.gpu.tensorrt_api import load_tensorrt

FORMS: dict[str, Callable[[onnx.ModelProto, Ranges], onnx.ModelProto]] = {
    "fp16, as exported": lambda model, ranges: to_fp16(model),
    "fp16": lambda model, ranges: for_tensorrt(to_fp16(model)),
    "int8, a scale a channel": lambda model, ranges: for_tensorrt(to_fp16(to_int8(model, ranges))),
    "int8": lambda model, ranges: for_tensorrt(
        to_fp16(to_int8(model, ranges, one_weight_scale=True))
    ),
}
"""How a graph can be written; those with one word are what `dad-edge build` makes."""
COLUMNS = {
    "size": "size",
    "network": "network",
    "form": "form",
    "capability": "for",
    "activation_mb": "MB between layers",
    "float_mb": "of it FP32",
    "weight_mb": "MB of weights",
    "kernels": "kernels",
    "unfused_attention": "attention unfused",
}


def plan_traffic(model: onnx.ModelProto, rows: int, capability: str, work: Path) -> Traffic:
    """What a plan moves in one pass.

    Args:
        model: typed graph.
        rows: of one frame.
        capability: that the plan is for.
        work: folder for the plan.

    Raises:
        DadEdgeError: the graph cannot be built.
    """
    job = PlanJob(
        name=model.graph.name,
        runtime="tensorrt-rtx",
        profiles=((rows, rows, 8 * rows),),
        capabilities=(capability,),
    )
    with StopRequest() as stop:
        content = model.SerializeToString(deterministic=True)
        built = build_in_process(job, content, work / "network.plan", stop, silent)
    assert built.traffic is not None, "TensorRT-RTX lists the layers of every plan"
    return built.traffic


def bundle_of(size: SizeName) -> Bundle:
    """Networks of a size: the demo bundle if it is of that size, else untrained ones."""
    packaged = open_bundle(PACKAGED)
    if packaged.model.size == size:
        return packaged
    return guessed(untrained_bundle(RECIPES[size].model), "average")


def rows_of_size(
    size: SizeName, capabilities: Sequence[str], work: Path
) -> Iterator[dict[str, Any]]:
    """One row a network, form and architecture; a build that fails costs its row."""
    bundle = bundle_of(size)
    assert bundle.calibration is not None
    for network, form, capability in product((DENOISER, SEGMENTER), FORMS, capabilities):
        row: dict[str, Any] = {"size": size, "network": network.removesuffix(".onnx")}
        row |= {"form": form, "capability": capability, "image_size": bundle.model.image_size}
        try:
            model = load_graph(bundle.path / network)
            graph = FORMS[form](model, bundle.calibration.ranges[network])
            traffic = plan_traffic(graph, rows_of(bundle.model, network), capability, work)
        except DadEdgeError as error:
            yield row | {"error": error.message}
            continue
        found = asdict(traffic)
        for part in ("activation", "float", "weight"):
            row[f"{part}_mb"] = round(found.pop(f"{part}_bytes") / 1e6, 1)
        yield row | found


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = [str(row.get(column, "failed")) for column in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(RECIPES), default=["nano", "edge"])
    parser.add_argument("--compute-capabilities", nargs="+", default=["8.9"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    version = load_tensorrt("tensorrt-rtx").__version__
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            for row in rows_of_size(size, options.compute_capabilities, Path(folder)):
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "traffic",
        "date": date.today().isoformat(),
        "device": environment["device"],
        "tensorrt_rtx": version,
        "rows": rows,
        "environment": environment,
    }
    path = result_file(options.out, "traffic", environment["device"], "-".join(options.sizes))
    write_json(path, result)
    print(markdown(rows))
    print(path)


if __name__ == "__main__":
    main()
