"""Synthetic anomalies on good parts, with their true masks, for users who have no defects."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from dad_edge.bundle import Bundle
from dad_edge.data.foreground import object_mask
from dad_edge.data.synthesis import Synthesizer
from dad_edge.image.framing import ignored_at, plan_views


def with_anomaly(
    frame: NDArray[np.uint8], bundle: Bundle, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A good part with one anomaly drawn onto its object, where the bundle inspects it.

    It is drawn as training draws it, at the size of the score map: the networks cannot see what is
    smaller than a pixel of the map.

    Args:
        frame: (H,W,3) uint8 BGR, a good part.
        bundle: the bundle that is to be judged.
        seed: another one draws another anomaly.

    Returns:
        The part (h,w,3) uint8 BGR and its true mask (h,w) uint8, 255 on the anomaly; h and w are
        those of the score map.

    Raises:
        DataError: the bundle's ignore mask leaves nothing to inspect.
    """
    shape = plan_views(frame.shape, bundle.model).shape
    shrinks = frame.shape[0] >= shape[0] and frame.shape[1] >= shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    part = np.asarray(cv2.resize(frame, shape[::-1], interpolation=method), np.uint8)
    foreground = object_mask(part)
    synthesizer = Synthesizer(
        None if foreground is None else [foreground], allowed=[~ignored_at(bundle.ignore, shape)]
    )
    drawn = synthesizer.draw(np.random.default_rng(seed), part, 0)
    return drawn.image, drawn.mask.astype(np.uint8) * 255
