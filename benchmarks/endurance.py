"""Frames in a row through one CPU inspector: memory stays flat, equal frames get equal scores.

    python -m benchmarks.endurance --frames 100000 --out benchmarks/results

The networks are single convolutions, so that a hundred thousand frames take minutes and every step
around them runs as it does on a line. Frames of three sizes come in turn. Exit code 1 if memory
grew or a score changed. Writes endurance_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
import time
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.naming import result_file
from dad_edge.bundle import DENOISER, SEGMENTER
from dad_edge.config import ModelConfig, RuntimeName
from dad_edge.machine.environment import describe_machine
from dad_edge.model.diffusion import alpha_bar_table
from dad_edge.progress import Progress, silent
from dad_edge.runtime.cpu.inspector import HostInspector
from dad_edge.runtime.cpu.ops import NumpyOps
from dad_edge.runtime.engines import CPU_RUNTIMES
from dad_edge.runtime.opening import open_graph

SIDE = 32
SIZES = ((SIDE, SIDE), (40, 56), (24, 90))
"""Rows and columns of the frames."""
ALLOWED_GROWTH_MIB = 4.0
"""What allocators may take for themselves after the first tenth of the frames."""
GRAPH = """
<ir_version: 10, opset_import: ["" : 20]>
network (float[N,{inputs},{side},{side}] {source}) => (float[N,{outputs},{side},{side}] {target}) {{
    linear = Conv<pads=[1,1,1,1]>({source}, weights)
    {target} = {activation}(linear)
}}
"""


def write_graph(folder: Path, name: str, **words: Any) -> Path:
    """A network of one convolution with fixed random weights."""
    import onnx

    model = onnx.parser.parse_model(GRAPH.format(side=SIDE, **words))
    shape = (words["outputs"], words["inputs"], 3, 3)
    weights = np.random.default_rng(0).normal(0, 0.3, shape).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weights, "weights"))
    onnx.save(model, folder / name)
    return folder / name


def tiny_inspector(runtime: RuntimeName, folder: Path) -> HostInspector:
    """An inspector whose networks cost nearly nothing, one thread."""
    model = ModelConfig(size="nano", image_size=SIDE)
    words = {"inputs": 3, "outputs": 3, "source": "x_t", "target": "noise"}
    denoiser = write_graph(folder, DENOISER, **words, activation="Identity")
    words = {"inputs": 6, "outputs": 1, "source": "pair", "target": "mask"}
    segmenter = write_graph(folder, SEGMENTER, **words, activation="Sigmoid")
    table = alpha_bar_table(model.schedule)
    return HostInspector(
        NumpyOps(model, [float(table[step]) for step in model.lambdas]),
        open_graph(runtime, denoiser, model, threads=1),
        open_graph(runtime, segmenter, model, threads=1),
        0.5,
    )


def resident_mib(process: int | None = None) -> float:
    """Memory of a process in MiB; of this one if None."""
    status = Path(f"/proc/{process or 'self'}/status").read_text(encoding="ascii")
    return int(re.findall(r"VmRSS:\s+(\d+) kB", status)[0]) / 1024


def endure(inspector: HostInspector, frames: int, progress: Progress = silent) -> dict[str, Any]:
    """Inspect so many frames and count the scores that differ from the first of equal frames."""
    rng = np.random.default_rng(1)
    drawn = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in SIZES]
    expected = [inspector.inspect(frame).score for frame in drawn]
    settled = max(frames // 10, 1)
    changed, memory = 0, []
    started = time.perf_counter()
    for done in range(1, frames + 1):
        which = done % len(drawn)
        changed += inspector.inspect(drawn[which]).score != expected[which]
        if done % settled == 0:
            memory.append(round(resident_mib(), 2))
            progress(done, frames)
    seconds = time.perf_counter() - started
    growth = memory[-1] - memory[0]
    return {
        "backend": inspector.backend,
        "frames": frames,
        "frame_sizes": SIZES,
        "seconds": round(seconds, 1),
        "scores": expected,
        "scores_that_changed": changed,
        "resident_mib": memory,
        "growth_mib": round(growth, 2),
        "passed": changed == 0 and growth <= ALLOWED_GROWTH_MIB,
    }


def _print(done: float, total: float, note: str = "") -> None:
    print(f"{done:.0f} of {total:.0f} frames", file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--runtimes", nargs="+", default=list(CPU_RUNTIMES), choices=CPU_RUNTIMES)
    parser.add_argument("--out", type=Path, help="folder of the result; only printed if left out")
    options = parser.parse_args()
    rows = []
    for runtime in options.runtimes:
        with tempfile.TemporaryDirectory() as folder:
            inspector = tiny_inspector(runtime, Path(folder))
        rows.append(endure(inspector, options.frames, _print))
    environment = describe_machine()
    result = {"schema_version": 1, "study": "endurance", "date": date.today().isoformat()}
    text = json.dumps(result | {"rows": rows, "environment": environment}, indent=2)
    print(text)
    if options.out:
        file = result_file(options.out, "endurance", environment["device"])
        file.write_text(text + "\n", encoding="utf-8")
        print(f"wrote {file}", file=sys.stderr)
    return 0 if all(row["passed"] for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
