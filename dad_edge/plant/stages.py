"""The stages of a product: commands, and keys that change where something they depend on does."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import list_items
from dad_edge.data.listing import Item
from dad_edge.errors import DataError
from dad_edge.plant.config import Product
from dad_edge.version import __version__

RUN, BUNDLE, REPORT = "run", "bundle", "report"
TRAIN, EVALUATE = "train", "evaluate"


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


def _test_items(root: Path) -> list[Item]:
    """Images of the test split; none where the data set has no such split."""
    try:
        return list(list_items(root, "test"))
    except DataError:
        return []
