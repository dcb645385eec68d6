"""Precision against size and speed: every engine of a bundle that can be built on this machine.

    python -m benchmarks.precision --bundle bundle --data DIR --out benchmarks/results

Copies the bundle, and builds FP32, FP16 and INT8 for every runtime of this machine, and ahead of
time for RTX cards. The accuracy gate judges each engine that can run here, and its speed is
measured. Without --bundle the demo bundle is measured, without --data on drawn parts. Run it on an
idle machine. Writes precision_<class>_<device>_<date>.json and prints the rows as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import dad_edge
from benchmarks.naming import result_file
from dad_edge.bench.measure import measure, summary
from dad_edge.bench.row import draw_frames
from dad_edge.bundle import DENOISER, ENGINES, PACKAGED, REPORTS, SEGMENTER, Bundle, open_bundle
from dad_edge.config import Precision, RuntimeName
from dad_edge.deploy.build import Target, find_target
from dad_edge.errors import DadEdgeError
from dad_edge.files import write_json
from dad_edge.gate.images import Images, data_images, demo_images
from dad_edge.gate.report import GateReport
from dad_edge.gate.verify import verify
from dad_edge.machine.environment import describe_machine
from dad_edge.machine.load import LoadWatch
from dad_edge.runtime.engines import why_not_here
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_to_judge
from dad_edge.runtime.opening import open_choice, open_graphs
from dad_edge.runtime.sidecar import Sidecar, read_sidecar

PRECISIONS: dict[RuntimeName, tuple[Precision, ...]] = {
    "onnxruntime": ("fp32", "fp16", "int8"),
    "openvino": ("fp32", "fp16", "int8"),
    "tensorrt": ("fp16", "int8"),
    "tensorrt-rtx": ("fp16", "int8"),
}
RTX_CARDS = ("8.6", "8.9", "12.0")
DEMO_PAIRS = 100
COLUMNS = {
    "engine": "engine",
    "engine_mib": "networks MiB",
    "bundle_mib": "bundle MiB",
    "build_seconds": "build s",
    "peak_memory_mib": "peak MiB",
    "auroc_drop_points": "AUROC drop",
    "pro_drop_points": "PRO drop",
    "verdict_flips": "flips",
    "frames_per_second": "frames/s",
}


def targets() -> Iterator[tuple[Target, Precision]]:
    """What can be built on this machine."""
    for runtime, precisions in PRECISIONS.items():
        try:
            target = find_target(runtime, RTX_CARDS if runtime == "tensorrt-rtx" else ())
        except DadEdgeError as error:
            print(f"{runtime}: left out, {error.message}", file=sys.stderr, flush=True)
            continue
        for precision in precisions:
            yield target, precision


def run_study(bundle: Bundle, images: Images, seconds: float) -> list[dict[str, Any]]:
    """A row for the FP32 graphs and for every engine; a failure is written into its row."""
    frames = draw_frames()
    networks = sum((bundle.path / name).stat().st_size for name in (DENOISER, SEGMENTER))
    others = folder_bytes(bundle.path) - networks
    rows: list[dict[str, Any]] = [
        {
            "engine": "FP32 graphs",
            "engine_mib": mib(networks),
            "bundle_mib": mib(networks + others),
            **speed(open_graphs(bundle), frames, seconds),
        }
    ]
    for target, precision in targets():
        row: dict[str, Any] = {"engine": f"{target.runtime} {precision}"}
        try:
            sidecar = build_apart(bundle, precision, target)
            size = sum(file.bytes for file in sidecar.files.values())
            whole = networks + others + folder_bytes(bundle.path / ENGINES / sidecar.name)
            row |= {
                "engine": sidecar.name,
                "engine_mib": mib(size),
                "bundle_mib": mib(whole),
                "build_seconds": sidecar.build_seconds,
                "peak_memory_mib": sidecar.peak_memory_mib,
            }
            if reason := why_not_here(sidecar):
                row["not_run"] = reason
            else:
                row |= judged(verify(bundle, sidecar.name, images))
                inspector = open_choice(choose_to_judge(bundle, sidecar.name))
                row |= speed(inspector, frames, seconds)
        except DadEdgeError as error:
            row["error"] = error.message
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
    return rows


def build_apart(bundle: Bundle, precision: Precision, target: Target) -> Sidecar:
    """Build an engine by the user's command, so that no other memory is counted.

    Raises:
        DadEdgeError: it was not built.
    """
    options = ["--precision", precision, "--runtime", target.runtime, "--bundle", str(bundle.path)]
    if target.runtime == "tensorrt-rtx":
        options += [word for c in target.capabilities for word in ("--compute-capability", c)]
    process = subprocess.run(
        [sys.executable, "-m", "dad_edge", "build", *options, "--json"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(dad_edge.__file__).parents[1])},
    )
    if not process.stdout:
        raise DadEdgeError(process.stderr.strip().splitlines()[-2], "see the command's own message")
    built = json.loads(process.stdout)
    name = f"{built['device']}-{built['runtime']}-{built['runtime_version']}-{precision}"
    return read_sidecar(bundle, name)


def judged(report: GateReport) -> dict[str, Any]:
    """What a row says about the accuracy gate; drops are in points."""
    judgement = report.judgement
    return {
        "passed": judgement.outcome == "passed",
        "failures": [*judgement.failures, *judgement.undefined],
        "mask_error_max": judgement.mask_error_max,
        "score_error_max": judgement.score_error_max,
        "auroc_drop_points": points(judgement.auroc.drop),
        "pro_drop_points": points(judgement.pro.drop),
        "verdict_flips": len(judgement.flips),
    }


def speed(inspector: Inspector, frames: list[Any], seconds: float) -> dict[str, Any]:
    """Frames per second of one frame at a time, and whether the machine was busy."""
    with inspector, LoadWatch() as watch:
        samples = measure(lambda n: inspector.inspect(frames[n % len(frames)]).stage_ms, seconds)
    figures = summary(samples, 1)
    return {
        "frames_per_second": round(figures.fps, 2),
        "latency_ms": asdict(figures.latency_ms),
        "unstable": figures.unstable,
        "load": asdict(watch.load),
    }


def points(drop: float | None) -> float | None:
    """A drop of a share in points."""
    return None if drop is None else round(100 * drop, 3)


def mib(size: int) -> float:
    """A size in MiB."""
    return round(size / 2**20, 2)


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in a folder, without engines and reports in it."""
    return sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not {ENGINES, REPORTS} & set(path.relative_to(folder).parts)
    )


def markdown(rows: list[dict[str, Any]]) -> str:
    """The rows as a table."""
    lines = ["| " + " | ".join(COLUMNS.values()) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        cells = ["–" if row.get(key) is None else str(row[key]) for key in COLUMNS]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=PACKAGED)
    parser.add_argument("--data", type=Path, help="data set; drawn parts if left out")
    parser.add_argument("--seconds", type=float, default=10, help="measured time of an engine")
    parser.add_argument("--pairs", type=int, default=DEMO_PAIRS, help="drawn parts of each kind")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "bundle"
        shutil.copytree(options.bundle, copy, ignore=shutil.ignore_patterns(ENGINES, REPORTS))
        bundle = open_bundle(copy)
        images = (
            data_images(options.data, bundle.model.bit_depth)
            if options.data
            else demo_images(bundle, options.pairs)
        )
        rows = run_study(bundle, images, options.seconds)
    environment = describe_machine()
    result = {
        "schema_version": 1,
        "study": "precision",
        "date": date.today().isoformat(),
        "device": environment["device"],
        "bundle": {
            "class_name": bundle.manifest.class_name,
            "size": bundle.model.size,
            "sha256": bundle.onnx_digests,
        },
        "images": {"source": images.source, "count": len(images)},
        "rows": rows,
        "environment": environment,
    }
    subject = bundle.manifest.class_name
    path = result_file(options.out, "precision", environment["device"], subject)
    write_json(path, result)
    print(markdown(rows))
    print(path)


if __name__ == "__main__":
    main()
