"""The part of a frame that a camera looks at, and what of it is not inspected."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace

import numpy as np

from dad_edge.config import ModelConfig
from dad_edge.errors import DataError
from dad_edge.image.framing import ignored_at
from dad_edge.image.masks import Mask
from dad_edge.image.scene import Scene, look_at, why_outside
from dad_edge.runtime.inspection import heat_of, top_mean
from dad_edge.runtime.seams import Inspection
from dad_edge.stream.frames import Frame

_SIZES = 4
"""Sizes of maps whose masks are kept."""


class View:
    """Region and ignore mask of one camera, which may share its engine with others."""

    def __init__(
        self,
        model: ModelConfig,
        region: tuple[int, int, int, int] | None,
        ignore: Mask | None,
        shared_ignore: Mask | None,
    ) -> None:
        """
        Args:
            model: K and value range.
            region: x, y, width and height in pixels; the whole frame if None.
            ignore: (H,W) of any size, laid over the region: True where nothing is inspected.
            shared_ignore: the same, which the engine applies already.
        """
        self._model = model
        self._region = region
        self._ignore = ignore
        self._shared = shared_ignore
        self._masks: OrderedDict[tuple[int, int], Mask | None] = OrderedDict()

    def cut(self, frame: Frame) -> Frame:
        """The frame with only the region left.

        Raises:
            DataError: the region reaches beyond the frame.
        """
        if self._region is None:
            return frame
        x, y, width, height = self._region
        rows, columns = frame.image.shape[:2]
        if x + width > columns or y + height > rows:
            raise DataError(
                f"{frame.name} is {columns}×{rows} pixels, and the region {list(self._region)} "
                "reaches beyond it.",
                "correct 'region' in line.toml: x, y, width and height in pixels",
            )
        box = slice(y, y + height), slice(x, x + width)
        mask = frame.mask[box] if frame.mask is not None else None
        return replace(frame, image=np.ascontiguousarray(frame.image[box]), mask=mask)

    def masked(self, inspection: Inspection) -> Inspection:
        """The inspection with what this camera ignores taken out.

        Raises:
            DataError: the mask leaves nothing to inspect.
        """
        if self._ignore is None:
            return inspection
        ignored = self._ignored(inspection.score_map.shape)
        assert ignored is not None
        score_map = inspection.score_map.copy()
        score = top_mean(score_map[~ignored][None], self._model.top_k)[0]
        score_map[ignored] = 0
        return replace(inspection, score=float(score), score_map=score_map, heat=heat_of(score_map))

    def why_no_part(self, inspection: Inspection, scene: Scene | None) -> str | None:
        """Why there is no part in view, in a few words; None if there may be one, or where an
        engine gives no picture to look at."""
        if scene is None or not inspection.image.size:
            return None
        ignored = self._ignored(inspection.image.shape[1:])
        return why_outside(look_at(inspection.image, ignored, self._model.value_range), scene)

    def _ignored(self, shape: tuple[int, ...]) -> Mask | None:
        """Both masks at the size of a map; None where there is none."""
        size = shape[0], shape[1]
        if size not in self._masks:
            masks = [ignored_at(m, size) for m in (self._ignore, self._shared) if m is not None]
            together = np.logical_or.reduce(masks) if masks else None
            if together is not None and together.all():
                raise DataError(
                    "the ignore masks of camera and bundle leave nothing to inspect.",
                    "leave the inspected part of the masks black",
                )
            self._masks[size] = together
            while len(self._masks) > _SIZES:
                self._masks.popitem(last=False)
        return self._masks[size]
