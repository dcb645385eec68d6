"""Engines that the accuracy gate accepted, with a proof, as `dad-edge build` leaves them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from dad_edge.bundle import ENGINES, Bundle
from dad_edge.runtime.opening import open_graphs
from dad_edge.runtime.proof import FRAMES, Outcome, make_proof, write_proof
from dad_edge.runtime.sidecar import Gate, Sidecar, write_sidecar


def accept(bundle: Bundle, sidecar: Sidecar) -> Sidecar:
    """Give an engine a proof of random frames and the gate's consent, on disk too."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 256, (40, 48, 3), dtype=np.uint8) for _ in range(FRAMES)]
    proof = make_proof(
        frames, open_graphs(bundle, threads=1), None, sidecar.precision, bundle.model
    )
    folder = bundle.path / ENGINES / sidecar.name
    sidecar = replace(
        sidecar,
        gate=Gate(passed=True, reason="passed"),
        proof_sha256=write_proof(folder, proof),
    )
    write_sidecar(folder, sidecar)
    return sidecar


def outcome(frame_ms: float, reason: str | None = None) -> Outcome:
    """What became of a proof, with a frame of so many milliseconds."""
    return Outcome(reason=reason, mask_error=0.0, score_error=0.0, frame_ms=frame_ms)
