"""Which images and which range method calibrate INT8 best: every combination against FP32.

    python -m benchmarks.calibration --out benchmarks/results
    python -m benchmarks.calibration --bundle bundle --data DIR --out benchmarks/results

Ranges come from normal images of the train split: images chosen by coverage, images spread evenly
over the folder, or its first images. Accuracy is judged on the test split in ONNX Runtime on the
CPU. Without --data both splits are drawn: the demo product can be drawn in any number. Nothing here
depends on speed. Writes calibration_<data>_<device>_<date>.json.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.against_fp32 import arguments, differences, judge, run
from benchmarks.ranges import Histogram, RangeMethod
from dad_edge.bundle import DENOISER, SEGMENTER, Bundle
from dad_edge.cli.progress import progress_bar
from dad_edge.config import GOOD
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.deploy.calibrate import observe
from dad_edge.deploy.coverage import choose
from dad_edge.gate.sensitivity import inspector_of
from dad_edge.graphs.quantize import load_graph, to_int8
from dad_edge.image.preprocess import read_frame
from dad_edge.runtime.opening import open_graphs

COUNTS = (8, 32, 128, 512)
METHODS: tuple[RangeMethod, ...] = ("min-max", "percentile", "entropy")


def selections(items: Sequence[Item], count: int) -> dict[str, list[Item]]:
    """`count` images, chosen in three ways."""
    return {
        "coverage": choose(items, count),
        "spread": spread(items, count),
        "first": list(items[:count]),
    }


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items, evenly spread over the order they come in."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def ranges_by(
    method: RangeMethod, histograms: Mapping[str, Histogram]
) -> dict[str, tuple[float, float]]:
    """Tensor → (minimum, maximum) by a method."""
    return {name: histogram.range(method) for name, histogram in histograms.items()}


def run_study(bundle: Bundle, data: Path, counts: Sequence[int]) -> dict[str, Any]:
    """Every number of images × selection × method."""
    train, test = list_items(data, "train"), list_items(data, "test")
    reference = open_graphs(bundle)
    graphs = {name: load_graph(bundle.path / name) for name in (DENOISER, SEGMENTER)}
    counts = sorted({min(count, len(train)) for count in counts})
    rows: list[dict[str, Any]] = []
    with progress_bar("calibration study") as progress:
        before = judge(reference, test)
        total = 3 * len(counts) * len(METHODS)
        for count in counts:
            seen_sets: dict[frozenset[str], str] = {}
            for selection, chosen in selections(train, count).items():
                same = seen_sets.setdefault(frozenset(i.name for i in chosen), selection)
                if same != selection:
                    total -= len(METHODS)
                    continue
                frames = (read_frame(item.path, bundle.model.bit_depth) for item in chosen)
                observed = observe(bundle, frames, Histogram)
                for method in METHODS:
                    int8 = {
                        name: to_int8(graph, ranges_by(method, observed[name].meters))
                        for name, graph in graphs.items()
                    }
                    after = judge(inspector_of(bundle, int8), test)
                    row = {"images": count, "selection": selection, "method": method}
                    rows.append(row | differences(before, after, reference.threshold))
                    print(rows[-1], file=sys.stderr, flush=True)
                    progress(len(rows), total)
    return {
        "test_images": len(test),
        "test_defective": sum(item.kind != GOOD for item in test),
        "fp32": {"image_auroc": before.auroc, "pro": before.pro},
        "threshold": reference.threshold,
        "rows": rows,
    }


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    options = parser.parse_args()

    def measure(bundle: Bundle, data: Path) -> dict[str, Any]:
        return run_study(bundle, data, options.counts)

    print(run("calibration", options, measure, train=max(options.counts)))


if __name__ == "__main__":
    main()
