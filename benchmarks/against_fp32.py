"""What the studies of precision share: arguments, test images, judgement and result file."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.bundle import PACKAGED, Bundle, open_bundle
from dad_edge.config import GOOD
from dad_edge.data.demo import write_dataset
from dad_edge.data.listing import Item
from dad_edge.data.truth import read_truth, truth_on
from dad_edge.files import write_json
from dad_edge.image.preprocess import read_frame
from dad_edge.machine.environment import describe_machine
from dad_edge.report.metrics import PixelMetrics, image_auroc
from dad_edge.runtime.inspection import Inspector

DEMO_SEED = 2
"""Seed of the drawn parts; the demo bundle was trained on seed 0 and calibrated on seed 1."""


@dataclass(frozen=True, slots=True)
class Judged:
    """The results of one inspector on the test images."""

    scores: NDArray[np.float64]
    maps: list[NDArray[np.float32]]
    auroc: float | None
    pro: float | None


def judge(inspector: Inspector, items: Sequence[Item]) -> Judged:
    """Inspect the test images."""
    pixels, scores, maps = PixelMetrics(), [], []
    for item in items:
        frame = read_frame(item.path)
        inspection = inspector.inspect(frame)
        mask = read_truth(item, frame)
        if item.kind == GOOD or mask is not None:
            pixels.update(
                inspection.score_map, truth_on(inspection.score_map, mask, inspector.ignore)
            )
        scores.append(inspection.score)
        maps.append(inspection.score_map)
    defective = [item.kind != GOOD for item in items]
    return Judged(np.array(scores), maps, image_auroc(scores, defective), pixels.pro())


def differences(before: Judged, after: Judged, threshold: float) -> dict[str, Any]:
    """The changes that a precision causes; drops in points of 1/100."""

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


def arguments(description: str) -> argparse.ArgumentParser:
    """The arguments of every study."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--bundle", type=Path, default=PACKAGED)
    parser.add_argument("--data", type=Path, help="data set; drawn parts if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    return parser


def run(
    study: str,
    options: argparse.Namespace,
    measure: Callable[[Bundle, Path], dict[str, Any]],
    train: int = 1,
) -> Path:
    """Measure a bundle on a data set and write `<study>_<data>_<device>_<date>.json`.

    Args:
        study: name of the study.
        options: from `arguments`.
        measure: bundle and data set → figures.
        train: number of good parts in the train split, where the data set is drawn.
    """
    bundle = open_bundle(options.bundle)
    environment = describe_machine()
    with tempfile.TemporaryDirectory() as folder:
        data = options.data or Path(folder) / "demo"
        if not options.data:
            write_dataset(data, seed=DEMO_SEED, train=train)
        figures = measure(bundle, data)
    result = {
        "schema_version": 1,
        "study": study,
        "date": date.today().isoformat(),
        "device": environment["device"],
        "data": data.name,
        "bundle": {
            "class_name": bundle.manifest.class_name,
            "size": bundle.model.size,
            "sha256": bundle.onnx_digests,
        },
        **figures,
        "environment": environment,
    }
    path = result_file(options.out, study, environment["device"], data.name)
    write_json(path, result)
    return path
