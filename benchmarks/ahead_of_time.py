"""TensorRT-RTX engines of untrained networks, built ahead of time: what parses, and at what cost.

    python -m benchmarks.ahead_of_time --out benchmarks/results

Builds both networks of every size in every fusion and precision for three generations of RTX cards
at once, each in a process of its own, with the profile of batches that `dad-edge build` uses and
with one profile for each batch size. Needs PyTorch to export and TensorRT-RTX, but no GPU. Writes
ahead_<device>_<date>.json and prints the rows as Markdown.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from itertools import product
from pathlib import Path
from typing import Any

from benchmarks.naming import result_file
from dad_edge.bench.untrained import untrained_bundle
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle, Calibration
from dad_edge.config import RECIPES, Fusion, Precision, SizeName
from dad_edge.deploy.build import Target
from dad_edge.deploy.plan import PlanJob
from dad_edge.deploy.process import build_in_process
from dad_edge.errors import DadEdgeError
from dad_edge.files import write_json
from dad_edge.graphs.engine import engine_graph
from dad_edge.graphs.quantize import inner_convolutions, load_graph
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.signals import StopRequest
from dad_edge.progress import silent
from dad_edge.runtime.engines import rows_of
from dad_edge.runtime.gpu.tensorrt_api import load_tensorrt

CAPABILITIES = ("8.6", "8.9", "12.0")
FUSIONS: dict[Fusion, tuple[int, ...]] = {"average": (100, 200), "norm_guided": (200, 400)}
PRECISIONS: tuple[Precision, ...] = ("fp16", "int8")
RANGE = (-4.0, 4.0)
"""Activation range of every layer; how long a build takes does not depend on it."""
COLUMNS = ("size", "fusion", "precision", "profiles", "network", "plan_mib", "seconds", "peak_mib")


def guessed(bundle: Bundle, fusion: Fusion) -> Bundle:
    """The bundle for a fusion, with activation ranges as if it had been calibrated."""
    model = replace(bundle.model, fusion=fusion, lambdas=FUSIONS[fusion])
    ranges = {
        name: {node.input[0]: RANGE for node in inner_convolutions(load_graph(bundle.path / name))}
        for name in (DENOISER, SEGMENTER)
    }
    calibration = Calibration(method="min-max", ranges=ranges)
    manifest = replace(bundle.manifest, model=model)
    return replace(bundle, manifest=manifest, calibration=calibration)


def profile_sets() -> dict[str, tuple[tuple[int, int, int], ...]]:
    """The profiles of `dad-edge build` ahead of time, and on a device."""
    ahead = Target(runtime="tensorrt-rtx", capabilities=CAPABILITIES).profiles
    device = Target(runtime="tensorrt", capabilities=CAPABILITIES[:1]).profiles
    return {"one": ahead, "each batch": device}


def rows_of_size(size: SizeName, work: Path) -> Iterator[dict[str, Any]]:
    """Build everything of one size; a build that fails loses only its own row."""
    for fusion, lambdas in FUSIONS.items():
        model = replace(RECIPES[size].model, fusion=fusion, lambdas=lambdas)
        bundle = guessed(untrained_bundle(model), fusion)
        for precision, (name, profiles), graph in product(
            PRECISIONS, profile_sets().items(), (DENOISER, SEGMENTER)
        ):
            row: dict[str, Any] = {
                "size": size,
                "fusion": fusion,
                "precision": precision,
                "profiles": name,
                "network": graph,
            }
            started = time.perf_counter()
            try:
                built = _build(bundle, graph, precision, profiles, work)
            except DadEdgeError as error:
                yield row | {"error": error.message}
                continue
            yield row | {
                "plan_mib": round(built.bytes / 2**20, 2),
                "seconds": round(time.perf_counter() - started, 1),
                "peak_mib": built.peak_memory_mib,
            }


def _build(
    bundle: Bundle,
    graph: str,
    precision: Precision,
    profiles: tuple[tuple[int, int, int], ...],
    work: Path,
) -> Any:
    rows = rows_of(bundle.model, graph)
    job = PlanJob(
        name=graph,
        runtime="tensorrt-rtx",
        profiles=tuple((low * rows, best * rows, most * rows) for low, best, most in profiles),
        capabilities=CAPABILITIES,
    )
    model = engine_graph(bundle, graph, precision, "tensorrt-rtx")
    path = work / Path(graph).with_suffix(".plan").name
    with StopRequest() as stop:
        return build_in_process(
            job, model.SerializeToString(deterministic=True), path, stop, silent
        )


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = [str(row.get(column, "failed" if "error" in row else "–")) for column in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", nargs="+", choices=list(RECIPES), default=["nano", "edge"])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    version = load_tensorrt("tensorrt-rtx").__version__
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for size in options.sizes:
            for row in rows_of_size(size, Path(folder)):
                rows.append(row)
                print(row, file=sys.stderr, flush=True)
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "ahead",
        "date": date.today().isoformat(),
        "device": environment["device"],
        "tensorrt_rtx": version,
        "compute_capabilities": CAPABILITIES,
        "rows": rows,
        "environment": environment,
    }
    path = result_file(options.out, "ahead", environment["device"])
    write_json(path, result)
    print(markdown(rows))
    print(path)


if __name__ == "__main__":
    main()
