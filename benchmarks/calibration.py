"""Which images and which range method calibrate INT8 best: every combination against FP32.

    python benchmarks/calibration.py --out benchmarks/results
    python benchmarks/calibration.py --bundle bundle --data DIR --out benchmarks/results

Ranges come from normal images of the train split, chosen by coverage, evenly spread over the
folder, or the first of it; accuracy is judged on the test split in ONNX Runtime on the CPU. Without
--data both are drawn: the demo product can be drawn in any number. Nothing here depends on speed.
Writes calibration_<data>_<device>_<date>.json.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import DENOISER, PACKAGED, SEGMENTER, Bundle, open_bundle, write_json
from dad_edge.calibrate import observe
from dad_edge.coverage import select, thumbnail
from dad_edge.data.demo import write_dataset
from dad_edge.data.layouts import GOOD, Item, list_items
from dad_edge.environment import describe
from dad_edge.metrics import PixelMetrics, image_auroc
from dad_edge.preprocess import read_frame, to_mask
from dad_edge.progress import progress_bar
from dad_edge.quantize import load_graph, to_int8
from dad_edge.ranges import RangeMethod
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import open_graphs
from dad_edge.sensitivity import inspector_of

COUNTS = (8, 32, 128, 512)
METHODS: tuple[RangeMethod, ...] = ("min-max", "percentile", "entropy")
DEMO_SEED = 2
"""Of the drawn parts; the demo bundle was trained on seed 0 and calibrated on seed 1."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What one inspector says about the test images."""

    scores: NDArray[np.float64]
    maps: list[NDArray[np.float32]]
    auroc: float | None
    pro: float | None


def judge(inspector: Inspector, items: Sequence[Item]) -> Judged:
    """Inspect the test images."""
    pixels, scores, maps = PixelMetrics(), [], []
    for item in items:
        found = inspector.inspect(read_frame(item.path))
        shape = found.heat.shape[0], found.heat.shape[1]
        marked = read_frame(item.mask).max(axis=2) if item.mask else None
        truth = np.zeros(shape, bool) if marked is None else to_mask(marked, shape)
        if item.kind == GOOD or truth.any():
            pixels.update(found.score_map, truth)
        scores.append(found.score)
        maps.append(found.score_map)
    defective = [item.kind != GOOD for item in items]
    return Judged(np.array(scores), maps, image_auroc(scores, defective), pixels.pro())


def differences(before: Judged, after: Judged, threshold: float) -> dict[str, Any]:
    """What quantization changed; drops in points of 1/100."""

    def drop(old: float | None, new: float | None) -> float | None:
        return None if old is None or new is None else round(100 * (old - new), 4)

    score = np.abs(before.scores - after.scores)
    masks = [np.abs(a - b) for a, b in zip(before.maps, after.maps, strict=True)]
    return {
        "score_error_mean": round(float(score.mean()), 6),
        "score_error_max": round(float(score.max()), 6),
        "mask_error_mean": round(float(np.mean([m.mean() for m in masks])), 7),
        "mask_error_max": round(float(max(m.max() for m in masks)), 5),
        "image_auroc_drop_points": drop(before.auroc, after.auroc),
        "pro_drop_points": drop(before.pro, after.pro),
        "verdict_flips": int(((before.scores > threshold) != (after.scores > threshold)).sum()),
    }


def selections(items: Sequence[Item], count: int) -> dict[str, list[Item]]:
    """`count` images in three ways."""
    features = np.stack([thumbnail(read_frame(item.path)) for item in items])
    return {
        "coverage": [items[index] for index in select(features, count)],
        "spread": spread(items, count),
        "first": list(items[:count]),
    }


def spread(items: Sequence[Item], count: int) -> list[Item]:
    """At most `count` items, evenly spread over the order they come in."""
    if len(items) <= count:
        return list(items)
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]


def run_study(
    bundle: Bundle, train: Sequence[Item], test: Sequence[Item], counts: Sequence[int]
) -> dict[str, Any]:
    """Every number of images × selection × method."""
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
                seen = observe(bundle, (read_frame(item.path) for item in chosen))
                for method in METHODS:
                    int8 = {n: to_int8(g, seen[n].ranges(method)) for n, g in graphs.items()}
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
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=PACKAGED)
    parser.add_argument("--data", type=Path, help="data set; drawn parts if left out")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    bundle = open_bundle(options.bundle)
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "demo"
        if not options.data:
            write_dataset(data, seed=DEMO_SEED, train=max(options.counts))
        study = run_study(
            bundle, list_items(data, "train"), list_items(data, "test"), options.counts
        )
    environment = describe()
    result = {
        "schema_version": 1,
        "study": "calibration",
        "date": date.today().isoformat(),
        "device": environment["device"],
        "data": data.name,
        "bundle": {
            "class_name": bundle.manifest.class_name,
            "size": bundle.model.size,
            "sha256": bundle.onnx_digests,
        },
        **study,
        "environment": environment,
    }
    device = re.sub(r"[^a-z0-9]+", "-", environment["device"].lower()).strip("-")
    path = options.out / f"calibration_{data.name}_{device}_{result['date']}.json"
    write_json(path, result)
    print(path)


if __name__ == "__main__":
    main()
