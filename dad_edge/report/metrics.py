"""Detection and localisation figures: image AUROC, pixel AUROC, pixel AP and PRO.

Every figure is computed from two histograms over the same ascending score levels: how many good
and how many defective items have each score. With one level for each distinct score that is
exact; `PixelMetrics` uses fixed levels, so that a test set of any length needs the same memory.
A figure that the data cannot define (one class only) is ``None``, never NaN.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from dad_edge.config import GOOD
from dad_edge.errors import ModelError
from dad_edge.report.results import Figure, KindFigures

PRO_MAX_FPR = 0.3
"""False-positive rate up to which PRO is integrated (the limit of the paper)."""

_NOT_A_SCORE = "check the checkpoint or engine with 'dad-edge verify'; half precision can overflow"

_MANTISSA_BITS = 10
_OCTAVES_BELOW_HALF = 40
_DROPPED_BITS = 23 - _MANTISSA_BITS
_HALF_LEVEL = int(np.float32(0.5).view(np.uint32)) >> _DROPPED_BITS
_LOW_LEVELS = _OCTAVES_BELOW_HALF << _MANTISSA_BITS
_HIGH_LEVELS = 24 << _MANTISSA_BITS
SCORE_LEVELS = _LOW_LEVELS + _HIGH_LEVELS
"""Number of levels that `score_levels` can return."""


def image_auroc(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """Area under the ROC curve: the chance that a defect outscores a good part, ties half.

    Args:
        scores: (N,) finite numbers, higher is more anomalous.
        labels: (N,) true or 1 for a defect, false or 0 for a good part.

    Returns:
        A number in [0,1], or None where one of the two classes is absent.

    Raises:
        ModelError: a score is not a finite number.
    """
    return _auroc(*_exact_histograms(scores, labels))


def auroc_figure(scores: ArrayLike, labels: ArrayLike) -> Figure:
    """`image_auroc` with the reason where it is not defined."""
    return Figure(value=image_auroc(scores, labels), undefined=why_undefined(labels))


def why_undefined(labels: ArrayLike) -> str | None:
    """Why the figures of single images are ``None`` on these labels, or None if they are not.

    Args:
        labels: (N,) true or 1 for a defect, false or 0 for a good part.
    """
    label_N = np.asarray(labels).ravel().astype(bool)
    if not label_N.size:
        return "no images"
    if not label_N.any():
        return "no defective images"
    return "no good images" if label_N.all() else None


def best_f1_threshold(scores: ArrayLike, labels: ArrayLike) -> float | None:
    """The image threshold of highest F1 on these very scores, halfway between two of them.

    It has seen the labels that it is judged by, so it flatters the model. It serves reports without
    a calibrated threshold, never a line. Of equal thresholds the highest is taken.

    Args:
        scores: (N,) finite numbers, higher is more anomalous.
        labels: (N,) true or 1 for a defect, false or 0 for a good part.

    Returns:
        A number between the lowest and the highest score, or None where one of the two classes
        is absent or all scores are equal.

    Raises:
        ModelError: a score is not a finite number.
    """
    good, defect = _exact_histograms(scores, labels)
    if not good.any() or not defect.any() or good.size < 2:
        return None
    distinct = np.unique(np.asarray(scores, dtype=np.float64))
    hits = np.cumsum(defect[::-1])[:-1]
    flagged = hits + np.cumsum(good[::-1])[:-1]
    best = int(np.argmax(2 * hits / (flagged + defect.sum())))
    return float(distinct[-1 - best] + distinct[-2 - best]) / 2


def kind_table(
    kinds: Sequence[str], scores: Sequence[float], threshold: float
) -> list[KindFigures]:
    """Figures for each kind of part at one image threshold, good parts first.

    Args:
        kinds: (N,) "good" or the name of the defect kind, one an image.
        scores: (N,) image scores in [0,1].
        threshold: a part is rejected when its score is above this.
    """
    kind_of = np.asarray(kinds, dtype=object)
    score_of = np.asarray(scores, dtype=np.float64)
    rows = []
    for kind in sorted(set(kinds), key=lambda name: (name != GOOD, name)):
        of_kind = kind_of == kind
        rejected = int((score_of[of_kind] > threshold).sum())
        images = int(of_kind.sum())
        against = of_kind | (kind_of == GOOD)
        is_good = kind == GOOD
        rows.append(
            KindFigures(
                kind=kind,
                images=images,
                image_auroc=None if is_good else auroc_figure(score_of[against], of_kind[against]),
                mean_score=float(score_of[of_kind].mean()),
                detected_at_threshold=None if is_good else rejected,
                missed=None if is_good else images - rejected,
                false_alarms=rejected if is_good else None,
            )
        )
    return rows


def score_levels(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Order-preserving level of each score, fine near 0 and near 1 where sigmoids saturate.

    The bits of a positive float32 sort like the number. Up to 0.5 the level is the exponent and
    the first 10 bits of the mantissa of s, above 0.5 those of 1 - s (exact in float32), counted
    from the top. Two scores share a level only where s, or 1 - s above 0.5, differs by less than
    one part in 1024, or where both are below 2^-41. Every half-precision number has its own
    level.

    Args:
        scores: any shape, float32 in [0,1].

    Returns:
        Levels of the same shape in [0, SCORE_LEVELS).
    """
    high = scores > 0.5
    near = np.where(high, np.float32(1) - scores, scores).astype(np.float32)
    below_half = _HALF_LEVEL - (near.view(np.uint32) >> _DROPPED_BITS).astype(np.int64)
    low_level = np.maximum(_LOW_LEVELS - 1 - below_half, 0)
    high_level = np.minimum(_LOW_LEVELS - 1 + below_half, SCORE_LEVELS - 1)
    return np.where(high, high_level, low_level)


class PixelMetrics:
    """Pixel AUROC, pixel AP and PRO of a test set seen one image at a time.

    Memory does not grow with the number of images. Pixels of one score level (see `score_levels`)
    count as ties, which is the only approximation. AUROC is off by at most half the sum over
    levels of (share of the good pixels) x (share of the defect pixels) in the level; PRO by at
    most half the sum of (share of the good pixels) x (share of the overlap) / max_fpr. Score maps
    in half precision are measured exactly.
    """

    def __init__(self) -> None:
        self._good = np.zeros(SCORE_LEVELS, dtype=np.int64)
        self._defect = np.zeros(SCORE_LEVELS, dtype=np.int64)
        self._overlap = np.zeros(SCORE_LEVELS, dtype=np.float64)
        self._regions = 0

    def update(self, score_map: NDArray[np.float32], mask: NDArray[np.bool_]) -> None:
        """Count one image.

        Args:
            score_map: (H,W) float32 in [0,1], higher is more anomalous.
            mask: (H,W) bool, true on defects; all false for a good part.

        Raises:
            ModelError: a score is outside [0,1] or not a number.
            ValueError: the two shapes differ.
        """
        if score_map.ndim != 2 or score_map.shape != mask.shape:
            raise ValueError(f"score map {score_map.shape} and mask {mask.shape} must be equal 2-D")
        if not (score_map.min() >= 0 and score_map.max() <= 1):
            raise ModelError(
                f"the score map runs from {score_map.min()} to {score_map.max()}, "
                "but scores lie in [0, 1].",
                _NOT_A_SCORE,
            )
        levels = score_levels(np.ascontiguousarray(score_map, dtype=np.float32))
        defect = mask.astype(bool)
        self._good += np.bincount(levels[~defect], minlength=SCORE_LEVELS)
        if not defect.any():
            return
        count, region = cv2.connectedComponents(defect.astype(np.uint8), connectivity=8)
        regions = region[defect]
        area = np.bincount(regions, minlength=count)
        defect_levels = levels[defect]
        self._defect += np.bincount(defect_levels, minlength=SCORE_LEVELS)
        self._overlap += np.bincount(
            defect_levels, weights=1.0 / area[regions], minlength=SCORE_LEVELS
        )
        self._regions += count - 1

    def why_undefined(self) -> str | None:
        """Why pixel AUROC, pixel AP and PRO are ``None``, or None if they are not."""
        if self._defect.any():
            return None if self._good.any() else "no defect-free pixels"
        return "no marked defects" if self._good.any() else "no pixels"

    def pixel_auroc(self) -> float | None:
        """Area under the ROC curve over all pixels; None where one class is absent."""
        return _auroc(self._good, self._defect)

    def pixel_ap(self) -> float | None:
        """Average precision over all pixels; None where one class is absent."""
        return _average_precision(self._good, self._defect)

    def pro(self, max_fpr: float = PRO_MAX_FPR) -> float | None:
        """Per-region overlap, integrated over the false-positive rate and normalised.

        A region is an 8-connected part of one image's mask. Each region weighs the same whatever
        its area. The false-positive rate counts the defect-free pixels of all images. The curve is
        linear between thresholds and at ``max_fpr``.

        Returns:
            A number in [0,1], or None without a region or without a defect-free pixel.
        """
        good_pixels = int(self._good.sum())
        if not self._regions or not good_pixels:
            return None
        used = np.flatnonzero((self._good > 0) | (self._overlap > 0))[::-1]
        fpr = np.concatenate([[0.0], np.cumsum(self._good[used]) / good_pixels])
        overlap = np.concatenate([[0.0], np.cumsum(self._overlap[used]) / self._regions])
        last = int(np.searchsorted(fpr, max_fpr, side="left"))
        share = (max_fpr - fpr[last - 1]) / (fpr[last] - fpr[last - 1])
        at_limit = overlap[last - 1] + share * (overlap[last] - overlap[last - 1])
        fpr = np.append(fpr[:last], max_fpr)
        overlap = np.append(overlap[:last], at_limit)
        area = (np.diff(fpr) * (overlap[1:] + overlap[:-1])).sum() / 2
        return float(min(area / max_fpr, 1.0))


def _exact_histograms(
    scores: ArrayLike, labels: ArrayLike
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    score_N = np.asarray(scores, dtype=np.float64).ravel()
    label_N = np.asarray(labels).ravel().astype(bool)
    if score_N.shape != label_N.shape:
        raise ValueError(f"{score_N.size} scores and {label_N.size} labels must be as many")
    if not np.isfinite(score_N).all():
        raise ModelError(
            "an image score is not a finite number.",
            _NOT_A_SCORE,
        )
    distinct, level = np.unique(score_N, return_inverse=True)
    good = np.bincount(level[~label_N], minlength=distinct.size)
    return good, np.bincount(level[label_N], minlength=distinct.size)


def _auroc(good: NDArray[np.int64], defect: NDArray[np.int64]) -> float | None:
    good_share = _shares(good)
    defect_share = _shares(defect)
    if good_share is None or defect_share is None:
        return None
    good_below = np.cumsum(good_share) - good_share
    return float(min((defect_share * (good_below + good_share / 2)).sum(), 1.0))


def _average_precision(good: NDArray[np.int64], defect: NDArray[np.int64]) -> float | None:
    recall_steps = _shares(defect[::-1])
    if recall_steps is None or not good.sum():
        return None
    hits = np.cumsum(defect[::-1])
    flagged = hits + np.cumsum(good[::-1])
    precision = hits / np.maximum(flagged, 1)
    return float(min((recall_steps * precision).sum(), 1.0))


def _shares(counts: NDArray[np.int64]) -> NDArray[np.float64] | None:
    total = counts.sum()
    return counts / total if total else None
