"""Normal images in memory and the batches that training draws from them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig, TrainConfig
from dad_edge.data.folder import images_in
from dad_edge.data.foreground import find_foregrounds
from dad_edge.data.layouts import list_items
from dad_edge.data.synthesis import Synthesizer
from dad_edge.errors import DataError
from dad_edge.files import sha256_of
from dad_edge.image.framing import (
    ViewPlan,
    ignored_at,
    is_plain,
    on_canvas,
    plan_views,
    scaled_mask,
    split_mask,
    views,
)
from dad_edge.image.masks import Mask
from dad_edge.image.preprocess import read_frame, resize
from dad_edge.model.parts import Parts
from dad_edge.progress import Progress, silent

FEWEST_IMAGES = 2
KEPT_OUT_SHARE = 0.15
"""Share of the good parts that do not teach, but measure."""
FEWEST_KEPT_OUT = 8
"""Parts to keep out at least; none where that would be more than a quarter of all."""

_log = logging.getLogger(__name__)


class Batch(NamedTuple):
    """One training step's images; the first half is normal, the second half synthetic."""

    frames: NDArray[np.uint8]
    """(B,S,S,3) uint8, BGR."""
    masks: NDArray[np.bool_]
    """(B,S,S) bool, empty in the first half."""
    originals: NDArray[np.uint8]
    """(B,S,S,3) uint8, BGR: the images before anomalies were put in."""


def load_square(path: Path, size: int) -> NDArray[np.uint8]:
    """An image file at the model's size: (S,S,3) uint8, BGR."""
    return to_square(read_frame(path, 16), size)


def to_square(frame: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """A frame or view at the model's size: (S,S,3) uint8, BGR."""
    return np.rint(resize(frame, size)).clip(0, 255).astype(np.uint8)


def choose_kept_out(digests: Sequence[str]) -> list[int]:
    """Positions of the images to keep out of training: those with the smallest digests.

    The choice depends on the images alone, so that a folder that grows keeps most of it.

    Args:
        digests: sha256 of every image.
    """
    if len(digests) < 4 * FEWEST_KEPT_OUT:
        return []
    count = max(FEWEST_KEPT_OUT, round(KEPT_OUT_SHARE * len(digests)))
    return sorted(sorted(range(len(digests)), key=lambda i: digests[i])[:count])


class TrainingSet:
    """All views of normal images at the model's size, and what anomaly synthesis needs besides."""

    def __init__(
        self,
        root: Path,
        model: ModelConfig,
        train: TrainConfig,
        textures: Path | None = None,
        progress: Progress = silent,
        ignore: Mask | None = None,
    ) -> None:
        """
        Args:
            root: folder of the data set.
            model: image size, framing and bit depth.
            train: batch size, seed and kind of foreground.
            textures: folder of texture images, if there is one.
            progress: told of every image.
            ignore: True where nothing is inspected: no anomaly is drawn there, and views that
                show nothing else are left out.

        Raises:
            DataError: no layout fits, too few images, one cannot be read, the ignore mask leaves
                nothing of it, or no object was found where the foreground must be one.
        """
        items = list_items(root, "train")
        if len(items) < FEWEST_IMAGES:
            raise DataError(
                f"{root} has {len(items)} normal image(s); training needs {FEWEST_IMAGES} or more.",
                "add images of good parts; a few dozen are a reasonable start",
            )
        digests = [sha256_of(item.path) for item in items]
        out = set(choose_kept_out(digests))
        self.parts = Parts(
            trained_on={item.name: digests[i] for i, item in enumerate(items) if i not in out},
            kept_out={items[i].name: digests[i] for i in sorted(out)},
        )
        self._frames: list[NDArray[np.uint8]] = []
        wholes: list[NDArray[np.uint8]] = []
        plans: list[ViewPlan] = []
        kept: list[tuple[int, int]] = []
        allowed: list[Mask] = []
        empty: list[Path] = []
        for item in items:
            frame = read_frame(item.path, model.bit_depth)
            if frame.min() == frame.max():
                empty.append(item.path)
            plan = plan_views(frame.shape, model)
            blocked = split_mask(ignored_at(ignore, plan.shape), plan, outside=True)
            for number, view in enumerate(views(frame, plan)):
                if not blocked[number].all():
                    kept.append((len(wholes), number))
                    allowed.append(~blocked[number])
                    self._frames.append(to_square(view, model.image_size))
            wholes.append(to_square(on_canvas(frame, plan), model.image_size))
            plans.append(plan)
            progress(len(wholes), len(items))
        if empty:
            _log.warning(
                "%d of %d normal images show nothing but one grey value, such as %s; remove frames "
                "without a part.",
                *(len(empty), len(items), empty[0]),
            )
        self._trained = np.array([i for i, (image, _) in enumerate(kept) if image not in out])
        self._kept_out = [i for i, (image, _) in enumerate(kept) if image in out]
        self._batch_size, self._seed = train.batch_size, train.seed
        self.foregrounds = _of_views(find_foregrounds(wholes, train.foreground), plans, kept)
        whole_frame = is_plain(model.framing) and ignore is None
        self._synthesizer = Synthesizer(
            self.foregrounds,
            _load_textures(textures, model.image_size),
            None if whole_frame else allowed,
            train.defect_share,
        )

    def __len__(self) -> int:
        """Number of views that teach."""
        return len(self._trained)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self) // self._batch_size)

    def chosen(self, step: int) -> NDArray[np.int_]:
        """Positions of the normal images of a step: (B,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self))
        places = np.resize(np.roll(order, -position * self._batch_size), self._batch_size)
        return np.asarray(self._trained[places])

    def batch(self, step: int, rows: slice = slice(None)) -> Batch:
        """The batch of a step: the same for the same seed, whatever was drawn before.

        Args:
            step: counted from 0.
            rows: positions in the batch; a row is the same whichever others are asked for.
        """
        chosen = self.chosen(step)
        wanted = range(self._batch_size)[rows]
        originals = np.stack([self._frames[chosen[row]] for row in wanted])
        frames, masks = originals.copy(), np.zeros(originals.shape[:3], bool)
        for place, row in enumerate(wanted):
            if row >= self._batch_size // 2:
                rng = np.random.default_rng((self._seed, 1, step, row))
                frames[place], masks[place] = self._synthesizer.draw(
                    rng, originals[place], int(chosen[row])
                )
        return Batch(frames, masks, originals)

    def good_views(self, most: int) -> NDArray[np.uint8]:
        """Views that teach, as they are, spread over all: (N,S,S,3) uint8, BGR.

        Args:
            most: number of views.
        """
        places = np.linspace(0, len(self) - 1, min(most, len(self))).round().astype(int)
        return np.stack([self._frames[index] for index in self._trained[places]])

    def kept_out(self, most: int) -> Batch | None:
        """Views of parts that do not teach: as they are, and with an anomaly each.

        The anomalies are drawn by a generator of their own and are the same at every call.

        Args:
            most: number of views; spread over all where there are more.

        Returns:
            First the normal images, then the synthetic ones, each in the same order; None where
            no part was kept out.
        """
        if not self._kept_out:
            return None
        spread = np.linspace(0, len(self._kept_out) - 1, min(most, len(self._kept_out)))
        chosen = [self._kept_out[round(place)] for place in spread]
        normal = np.stack([self._frames[index] for index in chosen])
        frames, masks = normal.copy(), np.zeros(normal.shape[:3], bool)
        for row, index in enumerate(chosen):
            rng = np.random.default_rng((self._seed, 2, index))
            frames[row], masks[row] = self._synthesizer.draw(rng, normal[row], index)
        return Batch(
            np.concatenate([normal, frames]),
            np.concatenate([np.zeros_like(masks), masks]),
            np.concatenate([normal, normal]),
        )


def _of_views(
    wholes: Sequence[Mask] | None, plans: Sequence[ViewPlan], kept: Sequence[tuple[int, int]]
) -> list[Mask] | None:
    """Foregrounds of views, cut out of the foregrounds of whole canvases (S,S).

    Args:
        wholes: foreground of every canvas; None for textures.
        plans: of every image.
        kept: image and number of every view.
    """
    if wholes is None:
        return None
    masks = []
    for image, number in kept:
        box = plans[image].map_boxes[number]
        rows, columns = (plans[image].map_boxes[-1][axis].stop for axis in (0, 1))
        masks.append(scaled_mask(wholes[image], (rows, columns))[box])
    return masks


def _load_textures(folder: Path | None, size: int) -> Sequence[NDArray[np.uint8]]:
    if folder is None:
        return ()
    paths = images_in(folder) or [p for sub in sorted(folder.glob("*")) for p in images_in(sub)]
    if not paths:
        raise DataError(
            f"texture folder {folder} has no images.",
            "give a folder of images, or leave --textures out to use drawn textures",
        )
    return [load_square(path, size) for path in paths]
