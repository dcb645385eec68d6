"""What every inspector shares: from the maps of a batch of views to one verdict a frame."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig
from dad_edge.image.framing import ViewPlan, ignored_at, merge
from dad_edge.image.masks import Mask
from dad_edge.image.scene import Scene, look_at, why_outside
from dad_edge.runtime.seams import Inspection, Pooled, Verdict

STAGES = ("inject", "denoise", "restore", "segment", "pool")


class Computed(NamedTuple):
    """What the networks made of V views."""

    pooled: Pooled
    image: NDArray[np.float32]
    """(V,3,S,S), what they saw; (V,3,0,0) without pictures."""
    restored: NDArray[np.float32]
    """(V,3,S,S), x̂0 at the largest λ, or the guided one; (V,3,0,0) without pictures."""
    stage_ms: dict[str, float]


class Inspector(ABC):
    """Inspects frames with one bundle on one backend; closed by `close` or a with statement."""

    def __init__(self, model: ModelConfig, threshold: float, ignore: Mask | None) -> None:
        """
        Args:
            model: image size, framing and K.
            threshold: scores above it are defects.
            ignore: (H,W) of any size, laid over every frame: True where nothing is inspected.
        """
        self.threshold = threshold
        self.ignore = ignore
        self.scene: Scene | None = None
        """Frames that look otherwise are `invalid`, whatever their score; None checks nothing."""
        self._model = model

    @property
    @abstractmethod
    def backend(self) -> str:
        """What runs, in words, as printed and written into every result."""

    @property
    def depth(self) -> int:
        """Submissions that may be on their way at once."""
        return 1

    @abstractmethod
    def inspect_batch(self, frames: Sequence[Any]) -> list[Inspection]:
        """Inspect frames together.

        Raises:
            DataError: there is no frame, one is not as the backend takes it, or the ignore mask
                leaves nothing of it.
            DeviceError: the backend failed.
        """

    def inspect(self, frame: Any) -> Inspection:
        """Inspect one frame (H,W,3) uint8 BGR of any size."""
        return self.inspect_batch([frame])[0]

    def submit(self, frames: Sequence[Any]) -> Any:
        """Start the inspection of frames together, or do it where nothing runs beside the caller.

        Returns:
            What `collect` takes, in the order of the submissions.
        """
        return self.inspect_batch(frames)

    def collect(self, submission: Any) -> list[Inspection]:
        """Wait for frames and hand their results out."""
        inspections: list[Inspection] = submission
        return inspections

    def close(self) -> None:  # noqa: B027 - most backends hold nothing that has to be given back
        """Give back what the backend holds; it inspects nothing afterwards."""

    def __enter__(self) -> Inspector:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _results(
        self, plans: Sequence[ViewPlan], computed: Computed, *, final: bool
    ) -> list[Inspection]:
        """One result a frame.

        Args:
            plans: of the frames.
            computed: of all their views, in order.
            final: every view is a whole frame and the ignore mask was applied already.
        """
        started = time.perf_counter()
        if final:
            pooled = computed.pooled
            rows = (pooled.scores, pooled.score_map, pooled.heat, computed.image, computed.restored)
            ignored = None
            if self.scene is not None and self.ignore is not None:
                ignored = ignored_at(self.ignore, computed.image.shape[2:])
            found = [self._inspection(*row, ignored) for row in zip(*rows, strict=True)]
        else:
            found, first = [], 0
            for of in plans:
                own = slice(first, first + len(of.map_boxes))
                first = own.stop
                score_map = merge(computed.pooled.score_map[own], of)
                ignored = ignored_at(self.ignore, of.shape)
                score = top_mean(score_map[~ignored][None], self._model.top_k)[0]
                score_map[ignored] = 0
                image, restored = computed.image[own], computed.restored[own]
                if image.size:
                    image, restored = merge(image, of), merge(restored, of)
                else:
                    image, restored = image[0], restored[0]
                heat = heat_of(score_map)
                found.append(self._inspection(score, score_map, heat, image, restored, ignored))
        if computed.stage_ms:
            computed.stage_ms["pool"] += (time.perf_counter() - started) * 1e3
        for inspection in found:
            inspection.stage_ms.update(computed.stage_ms)
        return found

    def _inspection(
        self,
        score: float,
        score_map: NDArray[np.float32],
        heat: NDArray[np.uint8],
        image: NDArray[np.float32],
        restored: NDArray[np.float32],
        ignored: Mask | None,
    ) -> Inspection:
        reason = self._why_invalid(score, image, ignored)
        return Inspection(
            score=float(score),
            verdict=verdict_of(score, self.threshold) if reason is None else "invalid",
            score_map=score_map,
            heat=heat,
            image=image,
            restored=restored,
            stage_ms={},
            reason=reason,
        )

    def _why_invalid(
        self, score: float, image: NDArray[np.float32], ignored: Mask | None
    ) -> str | None:
        if not math.isfinite(score):
            return "the score is not a number"
        if self.scene is None:
            return None
        return why_outside(look_at(image, ignored, self._model.value_range), self.scene)


def verdict_of(score: float, threshold: float) -> Verdict:
    """The verdict on a score; one that is not a finite number is never good."""
    if not math.isfinite(score):
        return "invalid"
    return "defect" if score > threshold else "good"


def heat_of(score_map: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A score map on the fixed scale 0..1 → 0..255; what is not a number is 255."""
    scaled = np.fmin(score_map, np.float32(1))  # takes the number where the other one is none
    np.fmax(scaled, np.float32(0), out=scaled)
    scaled *= 255
    return np.rint(scaled, out=scaled).astype(np.uint8)


def top_mean(pixels: NDArray[np.float32], top_k: int) -> NDArray[np.float32]:
    """Image scores: the mean of the K highest pixels, or of all where there are fewer.

    Args:
        pixels: (B,P), P at least 1.
        top_k: K.

    Returns:
        (B,) float32; not a number where a pixel is not finite.
    """
    count = min(top_k, pixels.shape[1])
    top = np.partition(pixels, -count, axis=1)[:, -count:]
    with np.errstate(invalid="ignore", over="ignore"):
        scores = np.asarray(top.mean(axis=1, dtype=np.float64), np.float32)
    scores[~all_finite(pixels)] = np.nan
    return scores


def all_finite(rows: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether all values of a row are finite: (B,P) → (B,); rows that sum to infinity are not."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.asarray(np.isfinite(rows.sum(axis=1)))
