"""The accuracy gate: an engine against FP32, on the same images and the same noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import ENGINES, REPORTS, Bundle
from dad_edge.config import Precision, read_recipe
from dad_edge.data.truth import truth_on
from dad_edge.errors import ModelError, require
from dad_edge.files import write_json
from dad_edge.gate.images import Images, Sample
from dad_edge.gate.layer_errors import layer_errors
from dad_edge.gate.pictures import worst_sheet
from dad_edge.gate.sensitivity import frames_for, pick_frames, rank_layers
from dad_edge.image.pictures import write_picture
from dad_edge.report.metrics import PixelMetrics, image_auroc
from dad_edge.runtime.engines import why_not_here
from dad_edge.runtime.inspection import Inspector
from dad_edge.runtime.inspector import choose_to_judge
from dad_edge.runtime.opening import open_choice, open_graphs
from dad_edge.runtime.proof import FRAMES, make_proof, write_proof
from dad_edge.runtime.seams import Inspection
from dad_edge.runtime.sidecar import (
    Gate,
    Sidecar,
    list_engines,
    read_sidecar,
    write_sidecar,
)

WORST = 5
"""Images, and layers, that a report names."""
REPORT = "verify.json"
PICTURE = "worst.png"

Progress = Callable[[int, int], None]
"""Called with the images compared and the number of all."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """What an engine may differ by; None is reported, not judged."""

    mask: float | None
    """Largest difference of a pixel of the score map."""
    score: float | None
    """Largest difference of an image score."""
    auroc: float
    """Largest drop of the image AUROC, 0.01 being one point."""
    pro: float
    """Largest drop of PRO."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-4, 1e-4, 0.0, 0.0005),
    "fp16": Tolerance(2e-2, 5e-3, 0.001, 0.002),
    "int8": Tolerance(None, None, 0.005, 0.01),
}


@dataclass(frozen=True, slots=True)
class Row:
    """One image under both."""

    name: str
    defective: bool
    reference: float
    score: float
    mask_error: float
    flipped: bool


@dataclass(slots=True)
class Comparison:
    """An engine beside its reference on a number of images."""

    rows: list[Row] = field(default_factory=list)
    reference_pixels: PixelMetrics = field(default_factory=PixelMetrics)
    engine_pixels: PixelMetrics = field(default_factory=PixelMetrics)
    worst: list[tuple[Sample, Inspection, Inspection]] = field(default_factory=list)
    """The images that differ most, with both inspections, worst first."""

    def add(self, sample: Sample, expected: Inspection, actual: Inspection) -> None:
        """Keep what an image says, and its pictures while it is among the worst."""
        flipped = expected.verdict != actual.verdict
        error = _mask_error(expected, actual)
        self.rows.append(
            Row(sample.name, sample.defective, expected.score, actual.score, error, flipped)
        )
        self.worst.append((sample, expected, actual))
        self.worst.sort(key=lambda pair: -_mask_error(*pair[1:]))
        del self.worst[WORST:]


def verify(
    bundle: Bundle,
    engine: str,
    images: Images,
    progress: Progress = lambda done, total: None,
    *,
    reference: Inspector | None = None,
) -> dict[str, Any]:
    """Judge an engine; report and pictures go into `reports/`, the verdict into its sidecar.

    Args:
        bundle: a checked bundle in a folder that may be written.
        engine: name of the engine.
        images: what to compare on.
        progress: called with the images compared and the number of all.
        reference: what is right, such as the run on PyTorch; the bundle's FP32 graphs if None.

    Returns:
        The report; `passed` and `failures` say what the gate decided.

    Raises:
        DeviceError, ModelError: the engine does not fit (see `choose_to_judge`).
        DataError: an image cannot be read.
        StorageError: the report cannot be written.
    """
    choice = choose_to_judge(bundle, engine)
    sidecar = choice.sidecar
    assert sidecar is not None, "an engine was named"
    reference = reference or open_graphs(bundle)
    with open_choice(choice) as candidate:
        seen = observe(reference, candidate, images, progress)
        frames = frames_of_proof(images)
        proof = make_proof(frames, reference, candidate, sidecar.precision, bundle.model)
    tolerance = tolerance_of(sidecar.precision, sidecar.layers.max_drop)
    report = {
        "engine": engine,
        "backend": candidate.backend,
        "reference": reference.backend,
        "threshold_reference": reference.threshold,
        "threshold_engine": candidate.threshold,
        "threshold_origin": choice.thresholds_origin,
        **judge(seen, images, sidecar.precision, tolerance),
    }
    if not report["passed"]:
        report["costliest_layers"] = costliest_layers(bundle, images, sidecar, seen, progress)
        report["next_step"] = next_step(sidecar.precision, engine)
    folder = bundle.path / REPORTS / engine
    if drawable := [pair for pair in seen.worst if _is_finite(*pair[1:])]:
        write_picture(folder / PICTURE, worst_sheet(engine, drawable, candidate.threshold))
    write_json(folder / REPORT, report)
    passed = f"passed on {len(seen.rows)} images of {images.source}"
    gate = Gate(passed=report["passed"], reason="; ".join(report["failures"]) or passed)
    folder = bundle.path / ENGINES / engine
    proof_sha256 = write_proof(folder, proof)
    write_sidecar(folder, replace(sidecar, gate=gate, proof_sha256=proof_sha256))
    return report


def frames_of_proof(images: Images) -> list[NDArray[np.uint8]]:
    """Frames by which an engine can prove itself later: a good part first, then defects."""
    good: list[NDArray[np.uint8]] = []
    defective: list[NDArray[np.uint8]] = []
    for sample in images.read():
        (defective if sample.defective else good).append(sample.frame)
        if good and len(defective) >= FRAMES - 1:
            break
    return [*good[:1], *defective, *good[1:]][:FRAMES]


def open_reference(bundle: Bundle, checkpoint: Path | None) -> Inspector:
    """What engines are compared with, at the bundle's own threshold.

    Args:
        bundle: a checked bundle.
        checkpoint: training run that it was exported from, to compare with PyTorch; the bundle's
            FP32 graphs on ONNX Runtime if None.

    Raises:
        MissingDependency: PyTorch is not installed.
        ModelError: the run does not fit its recipe, or the bundle was made of other settings.
    """
    graphs = open_graphs(bundle)
    if checkpoint is None:
        return graphs
    require("torch", "train", "compare with a checkpoint")
    from dad_edge.model.checkpoint import RECIPE
    from dad_edge.runtime.cpu.engine_torch import open_torch_inspector

    if read_recipe(checkpoint / RECIPE).model != bundle.model:
        raise ModelError(
            f"{checkpoint} has other settings than {bundle.path}.",
            "name the run that the bundle was exported from",
        )
    torch = open_torch_inspector(checkpoint, threshold=graphs.threshold)
    torch.ignore = bundle.ignore
    return torch


def compare(
    reference: Inspector,
    candidate: Inspector,
    images: Images,
    precision: Precision,
    tolerance: Tolerance,
    progress: Progress = lambda done, total: None,
) -> dict[str, Any]:
    """Inspect every image under both and judge the differences; nothing is written."""
    seen = observe(reference, candidate, images, progress)
    return judge(seen, images, precision, tolerance)


def observe(
    reference: Inspector,
    candidate: Inspector,
    images: Images,
    progress: Progress = lambda done, total: None,
) -> Comparison:
    """Inspect every image under both."""
    seen = Comparison()
    for sample in images.read():
        expected, actual = reference.inspect(sample.frame), candidate.inspect(sample.frame)
        seen.add(sample, expected, actual)
        marked = sample.mask is not None or not sample.defective
        if marked and _is_finite(expected, actual):
            truth = truth_on(expected.score_map, sample.mask, candidate.ignore)
            seen.reference_pixels.update(expected.score_map, truth)
            seen.engine_pixels.update(actual.score_map, truth)
        progress(len(seen.rows), len(images))
    return seen


def tolerance_of(precision: Precision, max_drop: float | None = None) -> Tolerance:
    """The tolerance of a precision.

    Args:
        precision: of the engine.
        max_drop: largest drop of the image AUROC in points, in place of the usual one.
    """
    usual = TOLERANCES[precision]
    return usual if max_drop is None else replace(usual, auroc=max_drop / 100)


def judge(
    comparison: Comparison, images: Images, precision: Precision, tolerance: Tolerance
) -> dict[str, Any]:
    """Figures and judgement; differences that are not finite are told by name, not by number."""
    rows = comparison.rows
    broken = [r.name for r in rows if not np.isfinite([r.reference, r.score, r.mask_error]).all()]
    sound = [r for r in rows if r.name not in broken]
    mask_error = max((r.mask_error for r in sound), default=0.0)
    score_error = max((abs(r.score - r.reference) for r in sound), default=0.0)
    auroc: tuple[float | None, ...] = (None, None)
    pro: tuple[float | None, ...] = (None, None)
    if images.ranked:
        labels = [r.defective for r in sound]
        auroc = tuple(
            image_auroc(scores, labels)
            for scores in ([r.reference for r in sound], [r.score for r in sound])
        )
        pro = (comparison.reference_pixels.pro(), comparison.engine_pixels.pro())
    drops = [
        None if before is None or after is None else before - after
        for before, after in (auroc, pro)
    ]

    failures = [f"scores are not finite: {', '.join(broken)}"] if broken else []
    for what, value, limit in (
        ("mask error", mask_error, tolerance.mask),
        ("score error", score_error, tolerance.score),
        ("AUROC drop", drops[0], tolerance.auroc),
        ("PRO drop", drops[1], tolerance.pro),
    ):
        if value is not None and limit is not None and value > limit:
            failures.append(f"{what} {value:.2g} is above {limit:g}")
    worst = sorted(sound, key=lambda r: -r.mask_error)[:WORST]
    return {
        "precision": precision,
        "images": len(rows),
        "source": images.source,
        "mask_error_max": mask_error,
        "score_error_max": score_error,
        "auroc_reference": auroc[0],
        "auroc_engine": auroc[1],
        "auroc_drop": drops[0],
        "pro_reference": pro[0],
        "pro_engine": pro[1],
        "pro_drop": drops[1],
        "tolerance": {
            "mask": tolerance.mask,
            "score": tolerance.score,
            "auroc_drop": tolerance.auroc,
            "pro_drop": tolerance.pro,
        },
        "verdict_flips": [
            {"image": r.name, "reference": r.reference, "engine": r.score}
            for r in sound
            if r.flipped
        ],
        "worst_images": [
            {
                "image": r.name,
                "mask_error": r.mask_error,
                "reference": r.reference,
                "engine": r.score,
            }
            for r in worst
        ],
        "passed": not failures,
        "failures": failures,
    }


def costliest_layers(
    bundle: Bundle,
    images: Images,
    sidecar: Sidecar,
    seen: Comparison,
    progress: Progress = lambda done, total: None,
) -> list[dict[str, Any]]:
    """Layers that the precision of an engine costs most in, worst first, each with its errors.

    In INT8 by what quantizing each layer alone does to the scores; in FP16 by where most error
    arises on the image that differs most. None in FP32, whose graphs are the reference's own.
    """
    if sidecar.precision == "int8":
        parts = ((sample.defective, sample.frame) for sample in images.read())
        ranking = rank_layers(bundle, pick_frames(parts, frames_for(bundle)), progress)
        chosen = sidecar.layers.float_layers
        kept = {(network, name) for network, names in chosen.items() for name in names}
        return [asdict(cost) for cost in ranking if (cost.network, cost.layer) not in kept][:WORST]
    if sidecar.precision == "fp16":
        return [asdict(error) for error in layer_errors(bundle, seen.worst[0][0].frame)[:WORST]]
    return []


def runnable(bundle: Bundle) -> list[str]:
    """Engines of a bundle that can run on this machine.

    Raises:
        ModelError: there is none.
    """
    names = list_engines(bundle)
    found = [name for name in names if why_not_here(read_sidecar(bundle, name)) is None]
    if not found:
        raise ModelError(
            f"{bundle.path} has no engine that can run here; it has: {', '.join(names) or 'none'}.",
            "make one with 'dad-edge build --precision fp16 --runtime onnxruntime'",
        )
    return found


def next_step(precision: Precision, engine: str) -> str:
    """What to try when an engine failed."""
    if precision == "int8":
        return (
            "use 'dad-edge build --precision int8 --max-drop 0.5 --data FOLDER', which keeps the "
            "costliest layers in float; or calibrate on more good parts, or use '--precision fp16'"
        )
    if precision == "fp16":
        return "use 'dad-edge build --precision fp32'"
    return f"remove {ENGINES}/{engine}, run 'dad-edge doctor' and build again"


def _mask_error(expected: Inspection, actual: Inspection) -> float:
    """Largest difference of a pixel; infinite where one is not a number."""
    error = float(np.abs(expected.score_map - actual.score_map).max())
    return error if np.isfinite(error) else float("inf")


def _is_finite(expected: Inspection, actual: Inspection) -> bool:
    return bool(np.isfinite(expected.score_map).all() and np.isfinite(actual.score_map).all())
