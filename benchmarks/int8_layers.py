"""Which INT8 layers cost accuracy, and what it gains to keep the costliest in float.

    python -m benchmarks.int8_layers --out benchmarks/results
    python -m benchmarks.int8_layers --bundle bundle --data DIR --out benchmarks/results

Layers are ranked on a few images of the test split; INT8 with 0, 1, 2, 4, 8 … of them in float is
judged on all of it, in ONNX Runtime on the CPU. Nothing here depends on speed.
Writes int8-layers_<data>_<device>_<date>.json.
"""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.against_fp32 import arguments, differences, judge, run
from dad_edge.bundle import Bundle
from dad_edge.cli.progress import progress_bar
from dad_edge.config import GOOD
from dad_edge.data.layouts import list_items
from dad_edge.gate.sensitivity import as_layers, frames_for, inspector_of, pick_frames, rank_layers
from dad_edge.gate.trade import graphs_with
from dad_edge.image.preprocess import read_frame
from dad_edge.runtime.opening import open_graphs


def run_study(bundle: Bundle, data: Path) -> dict[str, Any]:
    """The ranking, and accuracy and size by the number of float layers."""
    test = list_items(data, "test")
    reference = open_graphs(bundle)
    before = judge(reference, test)
    parts = ((item.kind != GOOD, read_frame(item.path, bundle.model.bit_depth)) for item in test)
    frames = pick_frames(parts, frames_for(bundle))
    with progress_bar("cost of every layer") as progress:
        ranking = rank_layers(bundle, frames, progress)
    rows, count = [], 0
    while True:
        graphs = graphs_with(bundle, as_layers(ranking[:count]))
        after = judge(inspector_of(bundle, graphs), test)
        row: dict[str, Any] = {"float_layers": count}
        row["bytes"] = sum(graph.ByteSize() for graph in graphs.values())
        row |= differences(before, after, reference.threshold)
        rows.append(row)
        print(row, file=sys.stderr, flush=True)
        if count == len(ranking):
            break
        count = min(max(1, 2 * count), len(ranking))
    return {
        "test_images": len(test),
        "ranked_on_images": len(frames),
        "fp32": {"image_auroc": before.auroc, "pro": before.pro},
        "threshold": reference.threshold,
        "rows": rows,
        "ranking": [asdict(cost) for cost in ranking],
    }


def main() -> None:
    print(run("int8-layers", arguments(__doc__).parse_args(), run_study))


if __name__ == "__main__":
    main()
