"""Table 3 and Table 4 of the paper on any data set: every row trained and evaluated alike.

    python -m benchmarks.ablations --data DIR --size nano --epochs 60

Each row is `dad-edge train` and `dad-edge evaluate` in processes of their own, with the same seed,
images and number of epochs. λ plays no part in training, so rows that differ only in λ share one
training and are evaluated several times. If a row fails, the others go on; a study that was stopped
continues where it was. Each result stands beside the paper's row, which is the average over VisA.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from benchmarks.naming import result_file, slug
from benchmarks.real_data import run_stage
from dad_edge.bench.paper import JOURNAL, TABLE_3, TABLE_4, PaperRow
from dad_edge.config import RECIPES, Recipe, SizeName
from dad_edge.documents import to_mapping
from dad_edge.files import write_json
from dad_edge.learn.recipes import norm_guided
from dad_edge.machine.environment import describe_machine
from dad_edge.model.checkpoint import STATE, write_recipe

FIGURES = ("image_auroc", "pixel_auroc", "pixel_ap", "pro")


def variants(base: Recipe) -> dict[str, tuple[Recipe, PaperRow]]:
    """Recipe and the paper's row of every row of the study, by name."""
    rows: dict[str, tuple[Recipe, PaperRow]] = {}
    for row in TABLE_3:
        model = replace(base.model, method=row.method)  # type: ignore[arg-type]
        rows[row.method] = (replace(base, model=model), row)
    for row in TABLE_4:
        if row.lambdas != base.model.lambdas:  # both λ are DiffusionAD's row above
            name = "DiffusionAD, λ = " + ", ".join(map(str, row.lambdas))
            model = replace(base.model, lambdas=row.lambdas)
            rows[name] = (replace(base, model=model), row)
    rows["norm-guided"] = (norm_guided(base), JOURNAL)
    return rows


def training_of(recipe: Recipe) -> dict[str, Any]:
    """The settings that the weights depend on: everything but λ."""
    mapping = to_mapping(recipe)
    del mapping["model"]["lambdas"]
    return mapping


def run_row(recipe: Recipe, data: Path, work: Path, earlier: Path | None) -> dict[str, Any]:
    """Train and evaluate one row in its own folder.

    Args:
        recipe: of the row.
        data: folder of the data set.
        work: folder of the row.
        earlier: folder of a row with the same training, if there is one.

    Returns:
        `steps` and the figures in percent, or `error`.
    """
    work.mkdir(parents=True, exist_ok=True)
    write_recipe(work, recipe)
    if earlier is not None and (earlier / "run" / STATE).is_file():
        shutil.rmtree(work / "run", ignore_errors=True)
        shutil.copytree(earlier / "run", work / "run", ignore=shutil.ignore_patterns("reports"))
        write_recipe(work / "run", recipe)
    names = {str(data): data.name, str(work): ".", str(Path.home()): "~"}
    program = [sys.executable, "-m", "dad_edge"]
    train = [*program, "train", "--data", str(data), "--out", "run", "--json"]
    if (work / "run" / STATE).is_file():
        train += ["--resume"]
    else:
        train += ["--recipe", "recipe.toml"]
    trained = run_stage(train, work, names)
    if not trained["ok"]:
        return {"error": trained["error"]}
    command = [*program, "evaluate", "--data", str(data), "--checkpoint", "run", "--json"]
    evaluated = run_stage(command, work, names)
    if not evaluated["ok"]:
        return {"error": evaluated["error"]}
    summary = evaluated["result"]["summary"]
    return {
        "steps": trained["result"]["step"],
        "train_minutes": trained["result"]["minutes"],
        **{name: percent(summary[name]) for name in FIGURES},
    }


def percent(share: float | None) -> float | None:
    """A share in percent; None stays."""
    return None if share is None else round(100 * share, 2)


def markdown(rows: dict[str, dict[str, Any]]) -> str:
    """The study as a table for documents."""
    lines = [
        "| row | image AUROC | PRO | paper, VisA: image AUROC | paper, VisA: PRO |",
        "|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        paper = row["paper"]
        figures = (row.get("image_auroc"), row.get("pro"), paper["image_auroc"], paper["pro"])
        cells = ["–" if figure is None else f"{figure:.1f}" for figure in figures]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("--data", type=Path, required=True, help="data set with test images")
    parser.add_argument("--size", default="nano", choices=list(RECIPES))
    parser.add_argument("--epochs", type=int, required=True, help="of every row")
    parser.add_argument("--rows", nargs="+", help="names of the rows; all if left out")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--work", type=Path, help="runs/ablations-<data> if left out")
    options = parser.parse_args()
    data = options.data.resolve()
    if not data.exists():
        parser.error(f"data set {options.data} does not exist")
    base = RECIPES[cast(SizeName, options.size)]
    variants_by_name = variants(replace(base, train=replace(base.train, epochs=options.epochs)))
    if unknown := set(options.rows or ()) - variants_by_name.keys():
        parser.error(f"no such row: {', '.join(unknown)}; there are {', '.join(variants_by_name)}")
    work = (options.work or Path("runs") / f"ablations-{data.name}").resolve()
    environment = describe_machine()
    path = result_file(options.out, "ablations", environment["device"], data.name)
    rows: dict[str, dict[str, Any]] = {}
    for name in options.rows or variants_by_name:
        recipe, paper = variants_by_name[name]
        print(f"{name} …", file=sys.stderr, flush=True)
        wanted = training_of(recipe)
        same = (
            work / slug(other)
            for other in rows
            if training_of(variants_by_name[other][0]) == wanted
        )
        figures = run_row(recipe, data, work / slug(name), next(same, None))
        rows[name] = figures | {"paper": {"image_auroc": paper.image_auroc, "pro": paper.pro}}
        study = {"schema_version": 1, "study": "ablations", "data": data.name}
        settings = {"size": options.size, "epochs": options.epochs, "seed": base.train.seed}
        write_json(path, study | settings | {"rows": rows, "environment": environment})
    print(markdown(rows))
    print(path, file=sys.stderr)


if __name__ == "__main__":
    main()
