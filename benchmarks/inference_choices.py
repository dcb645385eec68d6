"""What λ and K change for weights that are already trained: no row trains anything.

    python -m benchmarks.inference_choices --run runs/bottle-nano --data DIR

The masks of every λ are computed once; rows average some of them and pool the K highest pixels.
Several noise draws show how much of a difference is chance. Figures in percent, one JSON file.
"""

from __future__ import annotations

import argparse
import sys
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.naming import result_file
from dad_edge.config import GOOD, ModelConfig
from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import list_items
from dad_edge.data.truth import read_truth, truth_on
from dad_edge.files import sha256_of, write_json
from dad_edge.image.preprocess import read_frame, to_image
from dad_edge.machine.environment import describe_machine
from dad_edge.model.checkpoint import WEIGHTS, load_detector
from dad_edge.model.detector import Detector
from dad_edge.model.noise import normal
from dad_edge.report.metrics import PixelMetrics, image_auroc
from dad_edge.runtime.inspection import top_mean

LAMBDAS = (25, 50, 100, 150, 200, 300)
SETS = ((25,), (50,), (100,), (150,), (200,), (300,), (50, 100), (100, 200), (50, 100, 200))
TOP_K = (10, 50, 200)
SEEDS = (0, 1, 2)


@torch.inference_mode()
def masks_of(
    detector: Detector, image_3SS: NDArray[np.float32], noise_L3SS: torch.Tensor
) -> dict[int, NDArray[np.float32]]:
    """Mask (S,S) of one image for every λ."""
    image = torch.from_numpy(image_3SS).expand(len(LAMBDAS), -1, -1, -1)
    steps = torch.tensor(LAMBDAS)
    restored = detector.estimate(detector.corrupt(image, noise_L3SS, steps), steps)[1]
    masks = detector.score(torch.cat([image, restored], dim=1))[:, 0].numpy()
    return dict(zip(LAMBDAS, masks, strict=True))


def noise_of(size: int, seed: int) -> torch.Tensor:
    """Noise (L,3,S,S) of one draw."""
    shape = (3, size, size)
    return torch.stack(
        [normal(shape, seed=seed, lambda_index=i, frame_counter=0) for i in range(len(LAMBDAS))]
    )


def run_study(run: Path, data: Path) -> list[dict[str, Any]]:
    """One row for every choice of λ and K: mean and spread over the noise draws."""
    detector, recipe = load_detector(run)
    if not isinstance(detector, Detector) or recipe.model.fusion != "average":
        sys.exit("this study is of DiffusionAD with average fusion")
    model: ModelConfig = recipe.model
    items = list_items(data, "test")
    is_defect = [item.kind != GOOD for item in items]
    size = model.image_size
    noise = {seed: noise_of(size, seed) for seed in SEEDS}
    choices = list(product(SETS, SEEDS))
    pixels = {choice: PixelMetrics() for choice in choices}
    scores: dict[tuple[Any, ...], list[float]] = {key: [] for key in product(choices, TOP_K)}
    for number, item in enumerate(items, 1):
        frame = read_frame(item.path, model.bit_depth)
        image = to_image(frame, size, model.value_range)
        mask = read_truth(item, frame)
        truth = truth_on(image[0], mask, None)
        masks = {seed: masks_of(detector, image, noise[seed]) for seed in SEEDS}
        for steps, seed in choices:
            score_map = np.stack([masks[seed][step] for step in steps]).mean(axis=0)
            if mask is not None or item.kind == GOOD:
                pixels[steps, seed].update(score_map, truth)
            for top_k in TOP_K:
                value = top_mean(score_map.reshape(1, -1), top_k)[0]
                scores[(steps, seed), top_k].append(float(value))
        print(f"\r{number} of {len(items)} images", end="", file=sys.stderr)
    print(file=sys.stderr)
    rows = []
    for steps, top_k in product(SETS, TOP_K):
        figures = {
            "image_auroc": [image_auroc(scores[(steps, s), top_k], is_defect) for s in SEEDS],
            "pixel_auroc": [pixels[steps, s].pixel_auroc() for s in SEEDS],
            "pro": [pixels[steps, s].pro() for s in SEEDS],
        }
        row: dict[str, Any] = {"lambdas": list(steps), "top_k": top_k}
        for name, values in figures.items():
            percents = [100 * value for value in values if value is not None]
            row[name] = round(float(np.mean(percents)), 2)
            row[f"{name}_spread"] = round(max(percents) - min(percents), 2)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--run", type=Path, required=True, help="folder of a training run")
    parser.add_argument("--data", type=Path, required=True, help="data set with test images")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    rows = run_study(options.run, options.data)
    environment = describe_machine()
    name = options.data.resolve().name
    study = {
        "schema_version": 1,
        "study": "inference-choices",
        "data": name,
        "data_sha256": digest_items(list_items(options.data, "test")),
        "weights_sha256": sha256_of(options.run / WEIGHTS),
        "noise_draws": len(SEEDS),
        "rows": rows,
        "environment": environment,
    }
    path = result_file(options.out, "inference-choices", environment["device"], name)
    write_json(path, study)
    for row in rows:
        steps = ", ".join(map(str, row["lambdas"]))
        print(
            f"λ {steps:14} K {row['top_k']:4}  image AUROC {row['image_auroc']:5.1f} "
            f"±{row['image_auroc_spread'] / 2:.1f}  pixel AUROC {row['pixel_auroc']:5.1f}  "
            f"PRO {row['pro']:5.1f}"
        )
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
