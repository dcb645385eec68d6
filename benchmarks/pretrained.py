"""Make the demo bundle of the package, from seed to file: `make pretrained`.

Draws the demo product, trains `nano` on its good parts, exports the model, finds thresholds and
activation ranges on good parts that were not trained on, and puts the result into the package. A
run that was interrupted is continued. PyTorch runs on one thread, because the order of its sums
depends on the number of threads.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

from dad_edge.bundle import PACKAGED, open_bundle
from dad_edge.cli.progress import progress_bar
from dad_edge.data.dataset import TrainingSet
from dad_edge.data.demo import PRODUCT, write_dataset
from dad_edge.data.layouts import list_items
from dad_edge.deploy.calibrate import calibrate
from dad_edge.deploy.export import export
from dad_edge.documents import to_mapping
from dad_edge.files import new_folder, write_json
from dad_edge.learn.recipes import choose_recipe, prepare_recipe
from dad_edge.learn.train import train
from dad_edge.machine.environment import describe_machine
from dad_edge.model.checkpoint import STATE
from dad_edge.report.evaluate import bundle_candidate, evaluate
from dad_edge.report.page import write_report
from dad_edge.report.results import report_data

EPOCHS = 16
SEED, CALIBRATION_SEED = 0, 1
GOOD_PARTS = 400
FALSE_REJECT_RATE = 0.01


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path("runs/pretrained"))
    parser.add_argument("--out", type=Path, default=PACKAGED, help="folder of the bundle")
    parser.add_argument("--result", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)

    data, fresh, run = (arguments.work / name for name in ("data", "fresh", "run"))
    if not data.exists():
        with new_folder(data) as draft:
            write_dataset(draft, seed=SEED, train=GOOD_PARTS)
    if not fresh.exists():
        with new_folder(fresh) as draft:
            write_dataset(
                draft, seed=CALIBRATION_SEED, train=GOOD_PARTS, test_good=0, test_per_kind=0
            )

    resume = (run / STATE).is_file()
    recipe = prepare_recipe(choose_recipe("nano", epochs=EPOCHS, seed=SEED), run, resume)
    images = TrainingSet(data, recipe.model, recipe.train)
    with progress_bar("training nano") as report:
        summary = train(
            recipe,
            images,
            run,
            resume=resume,
            device="cpu",
            on_step=lambda step: report(step.fraction, 1.0, step.note),
        )
    export(run, arguments.out, class_name=PRODUCT, replace=arguments.out.exists())
    normal = list_items(fresh, "train")
    calibrate(open_bundle(arguments.out), normal, false_reject_rate=FALSE_REJECT_RATE)

    bundle = open_bundle(arguments.out)
    candidate = bundle_candidate(bundle)
    measured = evaluate(candidate, data, "test")
    write_report(measured, arguments.work / "report")
    figures = report_data(measured)
    print(json.dumps(figures["summary"], indent=2))
    if arguments.result:
        evaluation = {k: v for k, v in figures.items() if k not in ("scores", "examples")}
        write_json(
            arguments.result,
            {
                "schema_version": 1,
                "study": "pretrained",
                "environment": describe_machine(),
                "recipe": to_mapping(recipe),
                "training": summary,
                "evaluation": evaluation,
            },
        )


if __name__ == "__main__":
    main()
