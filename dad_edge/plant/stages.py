"""The stages of a product: commands, and keys that change where something they depend on does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

from dad_edge.config import RECIPES, Recipe, read_recipe
from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.errors import DadEdgeError, DataError
from dad_edge.image.framing import choose_framing
from dad_edge.plant.config import Product
from dad_edge.version import __version__

RUN, BUNDLE, REPORT = "run", "bundle", "report"
TRAIN, EVALUATE = "train", "evaluate"
STATE, RECIPE = "state.safetensors", "recipe.toml"
"""Files of a run, as `model.checkpoint` names them."""


@dataclass(frozen=True, slots=True)
class Stage:
    """One command of a product, to be run in its folder."""

    name: str
    arguments: tuple[str, ...]
    """Of `dad-edge`, without what only continues an earlier attempt."""
    key: str
    """Digest of everything that its outcome depends on."""
    makes: str
    """A file that is there once it is done, relative to the product's folder."""


def stages_of(name: str, product: Product) -> list[Stage]:
    """The stages of a product, each of which depends on those before it.

    Raises:
        DataError: its images cannot be listed.
    """
    root = Path(product.data)
    train, tested = digest_items(list_items(root, "train")), _test_items(root)
    test = digest_items(tested)
    data = ("--data", str(root.resolve()))
    options = ["--size", product.size, "--max-minutes", f"{product.minutes:g}"]
    options += ["--seed", str(product.seed)]
    options += ["--tiles", product.tiles] if product.tiles else []
    options += ["--keep-aspect"] if product.keep_aspect else []
    rate = f"{product.false_reject_rate:g}"
    export = ("export", "--checkpoint", RUN, "--out", BUNDLE, "--class-name", name, "--replace")
    bundle = ("--bundle", BUNDLE)
    manifest, thresholds = f"{BUNDLE}/bundle.json", f"{BUNDLE}/thresholds.json"
    planned: list[tuple[str, tuple[str, ...], str, str]] = [
        (TRAIN, ("train", *data, *options, "--out", RUN), train, f"{RUN}/summary.json"),
        ("export", export, "", manifest),
        ("calibrate", ("calibrate", *data, *bundle, "--false-reject-rate", rate), "", thresholds),
    ]
    if tested:
        evaluate = ("evaluate", *data, *bundle, "--out", REPORT)
        planned.append((EVALUATE, evaluate, test, f"{REPORT}/report.html"))
    for precision in product.precisions:
        build = ("build", "--precision", precision, *data, *bundle)
        planned.append((f"build {precision}", build, test, manifest))
    stages, before = [], __version__
    for stage, arguments, depends, makes in planned:
        # Where the images lie changes nothing of what they give.
        meaning = [part for part in arguments if part != data[1]]
        text = json.dumps([before, meaning, depends])
        before = hashlib.sha256(text.encode()).hexdigest()
        stages.append(Stage(stage, arguments, before, makes))
    return stages


def is_run_of(product: Product, run: Path) -> bool:
    """Whether a run was saved and has the settings of a product, whoever trained it.

    That it has the product's images is for `train --resume` to check.
    """
    if not (run / STATE).is_file():
        return False
    try:
        found = read_recipe(run / RECIPE)
    except DadEdgeError:
        return False
    wanted = RECIPES[product.size]
    framing = choose_framing(wanted.model.framing, product.tiles or None, product.keep_aspect)
    if not product.tiles and not product.keep_aspect:  # tiles come from the images
        framing = replace(framing, tiles=found.model.framing.tiles)
    model = replace(wanted.model, framing=framing, bit_depth=found.model.bit_depth)
    limit = found.train.max_minutes
    train = replace(wanted.train, seed=product.seed, max_minutes=limit)
    return found == Recipe(model=model, train=train)


def _test_items(root: Path) -> list[Item]:
    """Images of the test split; none where the data set has no such split."""
    try:
        return list(list_items(root, "test"))
    except DataError:
        return []
