"""Inspects every image of a split, and keeps figures, examples and what made them."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dad_edge.bundle import MANIFEST, PACKAGED, REPORTS, Bundle
from dad_edge.config import GOOD, ModelConfig, read_recipe
from dad_edge.data.digest import digest_items
from dad_edge.data.layouts import find_layout, list_items
from dad_edge.data.listing import Item, Split
from dad_edge.data.truth import read_truth, truth_on
from dad_edge.errors import ModelError, printable, require
from dad_edge.files import sha256_of
from dad_edge.image.framing import IGNORE
from dad_edge.image.pictures import InspectedImage
from dad_edge.image.preprocess import read_frame, to_frame
from dad_edge.machine.environment import describe_machine
from dad_edge.progress import Progress, silent
from dad_edge.report.examples import pick_examples, small_copy
from dad_edge.report.metrics import PixelMetrics, auroc_figure, best_f1_threshold, kind_table
from dad_edge.report.results import (
    Context,
    Figure,
    Group,
    ImageScore,
    MeasuredData,
    MeasuredModel,
    Report,
    Summary,
    Weights,
)
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_engine
from dad_edge.runtime.opening import open_choice

CALIBRATED = "from thresholds.json of the bundle"
ORACLE = "oracle: best F1 on these images, for this report only"
ARBITRARY = "arbitrary: not calibrated, and this split cannot suggest one"
ARBITRARY_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is evaluated: weights on a backend."""

    inspector: Inspector
    model: ModelConfig
    threshold: float | None
    """Calibrated image threshold, if there is one."""
    seed: int
    """Key of the inspector's noise."""
    weights: Weights
    """Which weights these are, for the report; no paths."""
    reports: Path
    """Folder where its reports belong."""
    origin: str = CALIBRATED
    """Where the threshold comes from."""
    passed_over: tuple[str, ...] = ()
    """Engines that were not used, each with the reason."""

    def default_folder(self, root: Path, split: Split) -> Path:
        """Folder of the report where the user names none."""
        return self.reports / f"{split}-{root.resolve().name}"


def bundle_candidate(
    bundle: Bundle, *, engine: str | None = None, seed: int = 0, threads: int | None = None
) -> Candidate:
    """A bundle on the runtime that it is deployed with.

    Args:
        bundle: a checked bundle.
        engine: name of a built engine; the one that `choose_engine` takes if None.
        seed: key of the noise.
        threads: threads that compute; all usable cores if None.
    """
    digests = _digests(bundle.path, MANIFEST) | bundle.manifest.sha256
    choice = choose_engine(bundle, engine)
    return Candidate(
        open_choice(choice, seed=seed, threads=threads),
        bundle.model,
        choice.thresholds.image_threshold if choice.thresholds else None,
        seed,
        Weights(form="bundle", name=bundle.manifest.class_name, sha256=digests),
        Path(REPORTS) if bundle.path == PACKAGED else bundle.path / REPORTS,
        f"from {choice.thresholds_origin}",
        choice.passed_over,
    )


def checkpoint_candidate(run: Path, *, device: str = "auto") -> Candidate:
    """A training run on PyTorch.

    Args:
        run: folder that `dad-edge train` made.
        device: `auto`, `cpu` or `cuda`.

    Raises:
        DeviceError: CUDA was asked for and is not there.
        MissingDependency: PyTorch is not installed.
        ModelError: the run is incomplete, damaged, or its files do not fit together.
    """
    require("torch", "train", "evaluate a checkpoint")
    from dad_edge.model.checkpoint import RECIPE, WEIGHTS
    from dad_edge.model.device import choose_device
    from dad_edge.runtime.cpu.engine_torch import open_torch_inspector

    inspector = open_torch_inspector(run, device=str(choose_device(device)))
    digests = _digests(run, RECIPE, WEIGHTS)
    return Candidate(
        inspector,
        read_recipe(run / RECIPE).model,
        None,
        0,
        Weights(form="checkpoint", name=run.resolve().name, sha256=digests),
        run / REPORTS,
    )


def _digests(folder: Path, *names: str) -> dict[str, str]:
    """sha256 of files of a model, and of its ignore mask if it has one."""
    files = (*names, IGNORE) if (folder / IGNORE).is_file() else names
    return {name: sha256_of(folder / name) for name in files}


def evaluate(
    candidate: Candidate,
    root: Path,
    split: Split = "test",
    progress: Progress = silent,
) -> Report:
    """Inspect every image of a split, one at a time, and measure.

    Pixel figures are on the score map, which covers the frame; ignored pixels count as good and
    scored 0. A defective image whose defect is not marked counts only in
    the image figures; the report's context says how many there are.
    An image that shows no part, by its brightness or contrast, keeps its score and is named.

    Args:
        candidate: what to evaluate.
        root: folder of the data set.
        split: which images.
        progress: told of every image.

    Returns:
        Figures, scores of all images, and the pictures of a few.

    Raises:
        DataError: no layout fits, the split is empty, an image cannot be read, or a mask has
            another size than its image.
        ModelError: a score is not a number in [0,1].
    """
    items = list_items(root, split)
    pixels = PixelMetrics()
    scores: list[ImageScore] = []
    outside_scene: dict[str, str] = {}
    unmarked = 0
    started = time.perf_counter()
    for item in items:
        frame = read_frame(item.path, candidate.model.bit_depth)
        mask = read_truth(item, frame)
        inspection = candidate.inspector.inspect(frame)
        if not math.isfinite(inspection.score):
            raise ModelError(
                f"the score of {item.path} is {inspection.score}.",
                "train again with a lower learning rate, or choose a higher precision",
            )
        if inspection.reason is not None:
            outside_scene[item.name] = inspection.reason
        scores.append(ImageScore(name=item.name, kind=item.kind, score=inspection.score))
        if item.kind != GOOD and mask is None:
            unmarked += 1
        else:
            truth = truth_on(inspection.score_map, mask, candidate.inspector.ignore)
            pixels.update(inspection.score_map, truth)
        progress(len(scores), len(items))
    seconds = time.perf_counter() - started

    kinds = [score.kind for score in scores]
    values = [score.score for score in scores]
    is_defect = [kind != GOOD for kind in kinds]
    threshold, origin = _threshold(candidate, values, is_defect)
    name = printable(root.resolve().name)
    return Report(
        title=f"{name}, {split} split",
        summary=_summary(values, is_defect, pixels),
        threshold=threshold,
        threshold_origin=origin,
        kinds=kind_table(kinds, values, threshold),
        context=Context(
            backend=candidate.inspector.backend,
            passed_over=candidate.passed_over,
            model=MeasuredModel(
                size=candidate.model.size,
                image_size=candidate.model.image_size,
                lambdas=candidate.model.lambdas,
                fusion=candidate.model.fusion,
            ),
            weights=candidate.weights,
            seed=candidate.seed,
            data=MeasuredData(
                name=name,
                layout=find_layout(root).name,
                split=split,
                images=len(items),
                defective=sum(is_defect),
                defective_without_mask=unmarked,
                sha256=digest_items(items),
            ),
            seconds=round(seconds, 3),
            images_per_second=round(len(items) / seconds, 2),
            environment=describe_machine(),
        ),
        examples=_examples(candidate, items, scores, threshold),
        scores=scores,
        outside_scene=outside_scene,
    )


def _summary(scores: Sequence[float], is_defect: Sequence[bool], pixels: PixelMetrics) -> Summary:
    reason = pixels.why_undefined()
    return Summary(
        image_auroc=auroc_figure(scores, is_defect),
        pixel_auroc=Figure(value=pixels.pixel_auroc(), undefined=reason),
        pixel_ap=Figure(value=pixels.pixel_ap(), undefined=reason),
        pro=Figure(value=pixels.pro(), undefined=reason),
    )


def _threshold(
    candidate: Candidate, scores: Sequence[float], is_defect: Sequence[bool]
) -> tuple[float, str]:
    """The threshold of the report and where it comes from."""
    if candidate.threshold is not None:
        return candidate.threshold, candidate.origin
    best = best_f1_threshold(scores, is_defect)
    return (ARBITRARY_THRESHOLD, ARBITRARY) if best is None else (best, ORACLE)


def _examples(
    candidate: Candidate, items: Sequence[Item], scores: Sequence[ImageScore], threshold: float
) -> dict[Group, list[InspectedImage]]:
    """Pictures of the images worth a look, which are chosen by score and inspected again."""
    item_of = {item.name: item for item in items}
    return {
        group: [_pictures(candidate, item_of[image.name]) for image in images]
        for group, images in pick_examples(scores, threshold).items()
    }


def _pictures(candidate: Candidate, item: Item) -> InspectedImage:
    frame = read_frame(item.path, candidate.model.bit_depth)
    inspection = candidate.inspector.inspect(frame)
    return small_copy(
        InspectedImage(
            item.name,
            item.kind,
            inspection.score,
            frame,
            to_frame(inspection.restored, candidate.model.value_range),
            inspection.heat,
            read_truth(item, frame),
        )
    )
