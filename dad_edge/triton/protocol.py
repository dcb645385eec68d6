"""What a server and those who ask it agree on: names of tensors, codes, and which bundle it is."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.runtime.seams import Verdict

MODEL = "dad_edge_inspect"
"""Name of the model where none is given."""
FRAME, IMAGE = "FRAME", "IMAGE"
"""Inputs, one of both: (B,H,W,3) uint8 BGR, or a picture file (1,N) uint8."""
SCORE, VERDICT, BUNDLE = "SCORE", "VERDICT", "BUNDLE"
"""Outputs: (B,1) float32; (B,1) uint8, a place in `VERDICTS`; (B,32) uint8, `digest_of`."""
SCORE_MAP, HEAT = "SCORE_MAP", "HEAT"
"""Outputs that are made only for those who ask for them: (B,h,w) float32 and uint8."""
VERDICTS: tuple[Verdict, ...] = ("good", "defect", "invalid")


def digest_of(bundle: Bundle) -> NDArray[np.uint8]:
    """Which networks a bundle has: (32,) uint8, SHA-256 over the digests of its graphs."""
    listed = json.dumps(bundle.onnx_digests, sort_keys=True).encode()
    return np.frombuffer(hashlib.sha256(listed).digest(), np.uint8)
