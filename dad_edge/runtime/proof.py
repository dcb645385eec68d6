"""The proof of an engine: a few frames with their FP32 results, kept beside the engine.

An engine that was judged on one machine may run on another, whose processor or driver computes
wrongly with it: 8-bit products that saturate where newer instructions are missing, a GPU with a
fault. So it proves itself on every machine, before it inspects the first part.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig, Precision
from dad_edge.documents import from_mapping, read_json, to_mapping
from dad_edge.errors import DadEdgeError, ModelError
from dad_edge.files import read_whole, write_json, write_whole
from dad_edge.machine.environment import fingerprint, user_cache
from dad_edge.runtime.inspection import Inspector

PROOF = "proof.npz"
FRAMES = 3
"""Frames of a proof."""
_TIMED_S = 0.3
"""Frames are timed for so many seconds, and at least one frame is."""
_LARGEST_BYTES = 1 << 28
"""Largest sum of the arrays of a proof that is read."""
_ALLOWED: dict[Precision, tuple[float, float]] = {
    "fp32": (1e-3, 1e-3),
    "fp16": (2e-2, 1e-2),
    "int8": (0.05, 0.01),
}
"""By how much a pixel of a map, and a score, may differ between machines.

In FP32 that is ten times, and in FP16 twice, what the accuracy gate allows. In INT8 it is added to
twice the difference that the engine had where it was judged.
"""
_UNSEEN_INT8 = (0.5, 0.1)
"""The same for an INT8 engine that has not run where it was built."""


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Proof:
    """Frames and their right results."""

    frames: tuple[NDArray[np.uint8], ...]
    """(H,W,3) uint8 BGR each, small."""
    scores: tuple[float, ...]
    """Image score of each in FP32."""
    maps: tuple[NDArray[np.float32], ...]
    """(h,w) score map of each in FP32."""
    allowed_mask: float
    """Largest difference of a pixel of a map."""
    allowed_score: float
    """Largest difference of a score."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """The outcome of a proof on one machine."""

    reason: str | None = None
    """Why it failed; None if it passed."""
    mask_error: float
    """Largest difference of a pixel of a map."""
    score_error: float
    """Largest difference of a score."""
    frame_ms: float
    """Milliseconds of the fastest of a few frames; of processor time on a CPU."""

    @property
    def passed(self) -> bool:
        return self.reason is None


def make_proof(
    frames: Sequence[NDArray[np.uint8]],
    reference: Inspector,
    engine: Inspector | None,
    precision: Precision,
    model: ModelConfig,
) -> Proof:
    """A proof for an engine.

    Args:
        frames: (H,W,3) uint8 BGR of the product; the first `FRAMES` are taken and made small.
        reference: inspects in FP32.
        engine: the engine on the machine that judges it; None where it cannot run on it.
        precision: of the engine.
        model: settings of the bundle.

    Raises:
        ModelError: a result of the reference itself is not a number.
    """
    small = tuple(_shrunk(frame, model) for frame in frames[:FRAMES])
    right = [reference.inspect(frame) for frame in small]
    if not all(np.isfinite(inspection.score) for inspection in right):
        raise ModelError(
            "a score of the FP32 graphs is not a number.", "train and export the model again"
        )
    bare = Proof(
        frames=small,
        scores=tuple(inspection.score for inspection in right),
        maps=tuple(inspection.score_map for inspection in right),
        allowed_mask=np.inf,
        allowed_score=np.inf,
    )
    mask, score = _ALLOWED[precision]
    if precision == "int8":
        if engine is None:
            mask, score = _UNSEEN_INT8
        else:
            outcome = prove(engine, bare)
            mask, score = mask + 2 * outcome.mask_error, score + 2 * outcome.score_error
    return replace(bare, allowed_mask=mask, allowed_score=score)


def prove(
    inspector: Inspector, proof: Proof, clock: Callable[[], float] = time.perf_counter
) -> Outcome:
    """Inspect the frames of a proof and compare.

    Args:
        inspector: what has to prove itself.
        proof: its frames and what is right for them.
        clock: seconds that a frame is timed with. Processor time suits engines on a CPU, because
            other programs that run at the same time hardly change it.

    Raises:
        DeviceError: the inspector failed.
    """
    mask_errors, score_errors = [], []
    for frame, score, score_map in zip(proof.frames, proof.scores, proof.maps, strict=True):
        inspection = inspector.inspect(frame)
        score_errors.append(abs(inspection.score - score))
        same_shape = inspection.score_map.shape == score_map.shape
        error = np.abs(inspection.score_map - score_map).max() if same_shape else np.inf
        mask_errors.append(float(error))
    mask, score = (_worst(errors) for errors in (mask_errors, score_errors))
    reason = None
    if not score <= proof.allowed_score:
        reason = f"scores differ by {score:.2g} from FP32, {proof.allowed_score:.2g} are allowed"
    elif not mask <= proof.allowed_mask:
        reason = f"maps differ by {mask:.2g} from FP32, {proof.allowed_mask:.2g} are allowed"
    frame_ms = _frame_ms(inspector, proof.frames[0], clock)
    return Outcome(reason=reason, mask_error=mask, score_error=score, frame_ms=frame_ms)


def _frame_ms(inspector: Inspector, frame: NDArray[np.uint8], clock: Callable[[], float]) -> float:
    """Milliseconds of the fastest of a few frames: other programs only make frames slower."""
    frame_s = float("inf")
    end = time.perf_counter() + _TIMED_S
    while frame_s == float("inf") or time.perf_counter() < end:
        began = clock()
        inspector.inspect(frame)
        frame_s = min(frame_s, clock() - began)
    return frame_s * 1e3


def as_fp32(proof: Proof) -> Proof:
    """The proof as the FP32 graphs have to pass it."""
    mask, score = _ALLOWED["fp32"]
    return replace(proof, allowed_mask=mask, allowed_score=score)


def write_proof(folder: Path, proof: Proof) -> str:
    """Put a proof into an engine's folder.

    Returns:
        Its sha256.

    Raises:
        StorageError: it cannot be written.
    """
    arrays: dict[str, Any] = {"scores": np.array(proof.scores, np.float64)}
    arrays["allowed"] = np.array([proof.allowed_mask, proof.allowed_score], np.float64)
    for index, (frame, score_map) in enumerate(zip(proof.frames, proof.maps, strict=True)):
        arrays[f"frame_{index}"], arrays[f"map_{index}"] = frame, score_map
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_whole(folder / PROOF, buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_proof(folder: Path, sha256: str) -> Proof:
    """The proof of an engine.

    Args:
        folder: of the engine.
        sha256: digest that its sidecar names.

    Raises:
        ModelError: it is missing or was changed.
    """
    path = folder / PROOF
    try:
        content = read_whole(path)
        if hashlib.sha256(content).hexdigest() != sha256:
            raise ValueError("its digest is not that in engine.json")
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _LARGEST_BYTES:
                raise ValueError("it is too large")
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            scores = tuple(float(score) for score in arrays["scores"])
            allowed_mask, allowed_score = (float(limit) for limit in arrays["allowed"])
            proof = Proof(
                frames=tuple(arrays[f"frame_{index}"] for index in range(len(scores))),
                scores=scores,
                maps=tuple(arrays[f"map_{index}"] for index in range(len(scores))),
                allowed_mask=allowed_mask,
                allowed_score=allowed_score,
            )
        if not _is_sound(proof):
            raise ValueError("it holds no frames, or what is not a number")
        return proof
    except Exception as error:  # a damaged file ends in any kind of error
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".")
        raise ModelError(
            f"{path} cannot be used: {reason}.",
            f"judge the engine again with 'dad-edge verify --engine {folder.name}'",
        ) from error


def _is_sound(proof: Proof) -> bool:
    """Whether there is something to compare, and numbers to compare it with."""
    frames = [frame.dtype == np.uint8 and frame.shape[2:] == (3,) for frame in proof.frames]
    maps = [score_map.ndim == 2 and bool(np.isfinite(score_map).all()) for score_map in proof.maps]
    numbers = (*proof.scores, proof.allowed_mask, proof.allowed_score)
    return bool(frames) and all(frames) and all(maps) and bool(np.isfinite(numbers).all())


def remembered(what: str, proof_sha256: str) -> Outcome | None:
    """A proof that passed on this machine earlier.

    Args:
        what: digest of everything that takes part in the computation.
        proof_sha256: digest of the proof.
    """
    path = _memory(what, proof_sha256)
    with suppress(DadEdgeError, OSError):
        return from_mapping(Outcome, read_json(path), str(path))
    return None


def remember(what: str, proof_sha256: str, outcome: Outcome) -> None:
    """Remember a proof that passed; a proof that failed is tried again each time.

    If the cache cannot be written, only time is lost.
    """
    if outcome.passed:
        with suppress(DadEdgeError, OSError):
            write_json(_memory(what, proof_sha256), to_mapping(outcome))


def _memory(what: str, proof_sha256: str) -> Path:
    """The cache file of one engine on one machine."""
    key = json.dumps([what, proof_sha256, fingerprint()], sort_keys=True)
    return user_cache() / "proofs" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"


def _worst(errors: Sequence[float]) -> float:
    """The largest of some errors; a value that is not a number counts as the largest."""
    return max(error if np.isfinite(error) else float("inf") for error in errors)


def _shrunk(frame: NDArray[np.uint8], model: ModelConfig) -> NDArray[np.uint8]:
    """The frame, made smaller where it is larger than what the model looks at."""
    side = model.image_size * max(model.framing.tiles)
    scale = side / max(frame.shape[:2])
    if scale >= 1:
        return frame
    size = max(1, round(frame.shape[1] * scale)), max(1, round(frame.shape[0] * scale))
    return np.asarray(cv2.resize(frame, size, interpolation=cv2.INTER_AREA), np.uint8)
