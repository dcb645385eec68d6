"""What the differences of an engine from FP32 amount to: passed, failed or not judged.

A figure that is not defined is never within its limit: an engine that could not be measured has
not passed.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from dad_edge.config import Precision
from dad_edge.gate.images import FEWEST, Images, Sample
from dad_edge.report.metrics import PRO_MAX_FPR, PixelMetrics, image_auroc
from dad_edge.runtime.seams import Inspection
from dad_edge.runtime.sidecar import GateOutcome

WORST = 5
"""A report names so many images, and so many layers."""
ERRORS_OF_A_GUESS = 2.0
"""A guess has an AUROC of 0.5, give or take its standard error. FP32 must be better by this many
standard errors, or it cannot tell which engine is worse than itself."""
PRO_OF_A_GUESS = PRO_MAX_FPR / 2
"""PRO of score maps that are the same everywhere. FP32 must reach twice as much."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """By how much an engine may differ; what has None as its limit is reported and not judged."""

    mask: float | None
    """Largest difference of a pixel of the score map."""
    score: float | None
    """Largest difference of an image score."""
    auroc: float
    """Largest drop of the image AUROC, 0.01 being one point."""
    pro: float
    """Largest drop of PRO."""
    flips: float = 0.05
    """Largest share of verdicts that flip, of the good images and of the defective ones. One of
    each may flip in any case: where the threshold is the score of a part, a rounding flips it."""


TOLERANCES: dict[Precision, Tolerance] = {
    "fp32": Tolerance(1e-4, 1e-4, 0.0, 0.0005),
    "fp16": Tolerance(2e-2, 5e-3, 0.001, 0.002),
    # Well calibrated networks stay below 0.04. Above 0.1 an image changes its rank among others.
    "int8": Tolerance(None, 0.1, 0.005, 0.01),
}


def tolerance_of(precision: Precision, max_drop: float | None = None) -> Tolerance:
    """The tolerance of a precision.

    Args:
        precision: of the engine.
        max_drop: largest drop of the image AUROC in points, in place of the usual one.
    """
    usual = TOLERANCES[precision]
    return usual if max_drop is None else replace(usual, auroc=max_drop / 100)


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One image under the engine and under its reference."""

    name: str
    defective: bool
    reference: float
    """Its score in FP32."""
    score: float
    """Its score by the engine."""
    mask_error: float
    """Largest difference of a pixel; infinite where one is not a number."""
    flipped: bool
    """Whether the two verdicts differ."""
    known: bool
    """Whether FP32 gives finite numbers."""
    sound: bool
    """Whether both give finite numbers."""
    digest: int
    """Digest of its pixels, so that copies of one image are not taken for several."""


@dataclass(slots=True)
class Comparison:
    """An engine beside its reference on a number of images."""

    rows: list[Row] = field(default_factory=list)
    reference_pixels: PixelMetrics = field(default_factory=PixelMetrics)
    engine_pixels: PixelMetrics = field(default_factory=PixelMetrics)
    marked: set[int] = field(default_factory=set)
    """Digests of the images with a defect that is marked where it is inspected."""
    worst: list[tuple[Sample, Inspection, Inspection]] = field(default_factory=list)
    """The images whose inspections differ most, with both inspections, worst first."""

    def add(self, sample: Sample, expected: Inspection, actual: Inspection) -> Row:
        """Add the result of an image, and keep its pictures while it is among the worst."""
        known, right = _is_finite(expected), _is_finite(actual)
        row = Row(
            name=sample.name,
            defective=sample.defective,
            reference=expected.score,
            score=actual.score,
            mask_error=mask_error(expected, actual),
            flipped=expected.verdict != actual.verdict,
            known=known,
            sound=known and right,
            digest=zlib.crc32(sample.frame.tobytes()),
        )
        self.rows.append(row)
        self.worst.append((sample, expected, actual))
        self.worst.sort(key=lambda pair: -mask_error(*pair[1:]))
        del self.worst[WORST:]
        return row


@dataclass(frozen=True, kw_only=True, slots=True)
class Figure:
    """AUROC or PRO of the engine and of its reference."""

    reference: float | None
    """In FP32, in [0,1]; None where it cannot be computed."""
    engine: float | None
    undefined: str | None
    """Why a drop of it says nothing, in words; None where it says something."""
    is_guess: bool = False
    """Whether that is because FP32 itself is no better than a guess."""

    @property
    def drop(self) -> float | None:
        """What the engine loses, 0.01 being one point."""
        if self.reference is None or self.engine is None:
            return None
        return self.reference - self.engine


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """What the accuracy gate found out about an engine."""

    precision: Precision
    images: int
    good: int
    """Different good images among them."""
    defective: int
    """Different defective images among them."""
    source: str
    """Where the images come from, in words."""
    mask_error_max: float
    score_error_max: float
    auroc: Figure
    pro: Figure
    tolerance: Tolerance
    flips: tuple[Row, ...]
    """Images whose verdicts flip."""
    worst: tuple[Row, ...]
    """Images that differ most, worst first."""
    failures: tuple[str, ...]
    """The figures that are out of their limits, in words."""
    undefined: tuple[str, ...]
    """What could not be judged, and why."""
    blind: bool
    """Whether nothing could be judged because of FP32 itself."""

    @property
    def outcome(self) -> GateOutcome:
        """What the gate says."""
        if self.failures:
            return "failed"
        return "not judged" if self.undefined else "passed"


def judge(
    comparison: Comparison, images: Images, precision: Precision, tolerance: Tolerance
) -> Judgement:
    """Figures and judgement; differences that are not finite are listed by image."""
    sound = [row for row in comparison.rows if row.sound]
    broken = [row.name for row in comparison.rows if row.known and not row.sound]
    unknown = [row.name for row in comparison.rows if not row.known]
    good = {row.digest for row in sound if not row.defective}
    defective = {row.digest for row in sound if row.defective}
    flips = tuple(row for row in sound if row.flipped)
    auroc = _auroc(sound, images, len(good), len(defective))
    pro = _pro(comparison, images, len(good))
    mask_error_max = max((row.mask_error for row in sound), default=0.0)
    score_error_max = max((abs(row.score - row.reference) for row in sound), default=0.0)

    failures = [f"scores are not finite: {', '.join(broken)}"] if broken else []
    # INT8 suits the ranges of its own product: the scores of another one may move freely.
    holds = images.ranked or precision != "int8"
    for figure, value, limit in (
        ("mask error", mask_error_max, tolerance.mask),
        ("score error", score_error_max, tolerance.score if holds else None),
        ("AUROC drop", None if auroc.is_guess else auroc.drop, tolerance.auroc),
        ("PRO drop", None if pro.is_guess else pro.drop, tolerance.pro),
    ):
        if value is not None and limit is not None and value > limit:
            failures.append(f"{figure} {value:.2g} is above {limit:g}")
    if images.ranked:
        failures += _too_many_flips(sound, tolerance.flips)
    undefined = _undefined(auroc, pro)
    if unknown:
        undefined.insert(0, f"FP32 itself gives no finite scores: {', '.join(unknown)}")
    return Judgement(
        precision=precision,
        images=len(comparison.rows),
        good=len(good),
        defective=len(defective),
        source=images.source,
        mask_error_max=mask_error_max,
        score_error_max=score_error_max,
        auroc=auroc,
        pro=pro,
        tolerance=tolerance,
        flips=flips,
        worst=tuple(sorted(sound, key=lambda row: -row.mask_error)[:WORST]),
        failures=tuple(failures),
        undefined=tuple(undefined),
        blind=bool(unknown) or auroc.is_guess or pro.is_guess,
    )


def _auroc(sound: Sequence[Row], images: Images, good: int, defective: int) -> Figure:
    if not images.ranked:
        return _of_another_product(images)
    labels = [row.defective for row in sound]
    before, after = (
        image_auroc(scores, labels)
        for scores in ([row.reference for row in sound], [row.score for row in sound])
    )
    why = _too_few(good, "good") or _too_few(defective, "defective")
    is_guess = False
    if why is None and before is not None:
        count = sum(labels)
        others = len(labels) - count
        error = math.sqrt((len(labels) + 1) / (12 * count * others))
        is_guess = before <= 0.5 + ERRORS_OF_A_GUESS * error
        if is_guess:
            why = f"that of FP32 is {before:.3f}, no better than a guess"
    return Figure(reference=before, engine=after, undefined=why, is_guess=is_guess)


def _pro(comparison: Comparison, images: Images, good: int) -> Figure:
    if not images.ranked:
        return _of_another_product(images)
    before, after = comparison.reference_pixels.pro(), comparison.engine_pixels.pro()
    why = _too_few(good, "good") or _too_few(len(comparison.marked), "marked defective")
    is_guess = why is None and before is not None and before < 2 * PRO_OF_A_GUESS
    if is_guess:
        why = f"that of FP32 is {before:.3f}, no better than a guess"
    elif why is None:
        why = comparison.reference_pixels.why_undefined()
    return Figure(reference=before, engine=after, undefined=why, is_guess=is_guess)


def _of_another_product(images: Images) -> Figure:
    why = f"the bundle was made for another product than {images.source}"
    return Figure(reference=None, engine=None, undefined=why)


def _undefined(auroc: Figure, pro: Figure) -> list[str]:
    if auroc.undefined and auroc.undefined == pro.undefined:
        return [f"AUROC and PRO are not defined: {auroc.undefined}"]
    figures = ("AUROC", auroc), ("PRO", pro)
    return [f"{name} is not defined: {f.undefined}" for name, f in figures if f.undefined]


def _too_few(count: int, kind: str) -> str | None:
    if count >= FEWEST:
        return None
    return f"{FEWEST} different {kind} images are needed, found {count or 'none'}"


def _too_many_flips(sound: Sequence[Row], limit: float) -> list[str]:
    failures = []
    for kind, defective in (("good", False), ("defective", True)):
        rows = [row for row in sound if row.defective == defective]
        flipped = sum(row.flipped for row in rows)
        if flipped > max(1, limit * len(rows)):
            failures.append(
                f"verdicts of {flipped} of {len(rows)} {kind} images flip, above {100 * limit:g} %"
            )
    return failures


def mask_error(expected: Inspection, actual: Inspection) -> float:
    """Largest difference of a pixel of two score maps; infinite where one is not a number."""
    error = float(np.abs(expected.score_map - actual.score_map).max())
    return error if np.isfinite(error) else float("inf")


def _is_finite(inspection: Inspection) -> bool:
    return bool(np.isfinite(inspection.score) and np.isfinite(inspection.score_map).all())
