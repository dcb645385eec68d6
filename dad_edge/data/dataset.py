"""Normal images in memory and the batches that training draws from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig, TrainConfig
from dad_edge.data.foreground import find_foregrounds
from dad_edge.data.layouts import images_in, list_items
from dad_edge.data.synthesis import Synthesizer
from dad_edge.errors import DataError
from dad_edge.preprocess import read_frame, resize

FEWEST_IMAGES = 2


class Batch(NamedTuple):
    """One training step's images; the first half is normal, the second half synthetic."""

    frames: NDArray[np.uint8]
    """(B,S,S,3) uint8, BGR."""
    masks: NDArray[np.bool_]
    """(B,S,S) bool, empty in the first half."""


def load_square(path: Path, size: int) -> NDArray[np.uint8]:
    """An image file at the model's size: (S,S,3) uint8, BGR."""
    return np.rint(resize(read_frame(path), size)).clip(0, 255).astype(np.uint8)


class TrainingSet:
    """All normal images at the model's size, and what anomaly synthesis needs of them."""

    def __init__(
        self,
        root: Path,
        model: ModelConfig,
        train: TrainConfig,
        textures: Path | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        """
        Args:
            root: folder of the data set.
            model: image size.
            train: batch size, seed and kind of foreground.
            textures: folder of texture images, if there is one.
            progress: called with the images read and the number of all.

        Raises:
            DataError: no layout fits, too few images, one cannot be read, or no object was found
                where the foreground must be one.
        """
        paths = [item.path for item in list_items(root, "train")]
        if len(paths) < FEWEST_IMAGES:
            raise DataError(
                f"{root} has {len(paths)} normal image(s); training needs {FEWEST_IMAGES} or more.",
                "add images of good parts; a few dozen are a reasonable start",
            )
        self._frames: list[NDArray[np.uint8]] = []
        for path in paths:
            self._frames.append(load_square(path, model.image_size))
            if progress:
                progress(len(self._frames), len(paths))
        self._batch_size, self._seed = train.batch_size, train.seed
        self.foregrounds = find_foregrounds(self._frames, train.foreground)
        self._synthesizer = Synthesizer(
            self.foregrounds, _load_textures(textures, model.image_size)
        )

    def __len__(self) -> int:
        return len(self._frames)

    @property
    def steps_per_epoch(self) -> int:
        return max(1, len(self) // self._batch_size)

    def chosen(self, step: int) -> NDArray[np.int_]:
        """Positions of the normal images of a step: (B,)."""
        epoch, position = divmod(step, self.steps_per_epoch)
        order = np.random.default_rng((self._seed, 0, epoch)).permutation(len(self))
        return np.resize(np.roll(order, -position * self._batch_size), self._batch_size)

    def frame(self, index: int) -> NDArray[np.uint8]:
        """A normal image: (S,S,3) uint8, BGR."""
        return self._frames[index]

    def batch(self, step: int) -> Batch:
        """The batch of a step: the same for the same seed, whatever was drawn before."""
        chosen = self.chosen(step)
        rng = np.random.default_rng((self._seed, 1, step))
        half = self._batch_size // 2
        frames = np.stack([self._frames[i] for i in chosen])
        masks = np.zeros(frames.shape[:3], bool)
        for row in range(half, self._batch_size):
            frames[row], masks[row] = self._synthesizer.draw(rng, frames[row], int(chosen[row]))
        return Batch(frames, masks)


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
