"""The steps around the networks in NumPy: the reference of every other backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dad_edge import philox
from dad_edge.config import ModelConfig
from dad_edge.model import diffusion
from dad_edge.preprocess import to_image
from dad_edge.runtime.seams import Injected, Pooled


class NumpyOps:
    """Inject, restore and pool on the CPU."""

    name = "NumPy"

    def __init__(self, model: ModelConfig, alpha_bar: Sequence[float], seed: int = 0) -> None:
        """
        Args:
            model: the bundle's model settings.
            alpha_bar: ᾱ at each λ.
            seed: key of the noise.
        """
        self.model = model
        self._alpha_bar = np.asarray(alpha_bar, np.float32)[:, None, None, None, None]
        self._seed = seed
        self._noise_counter: int | None = None
        self._noise_L3SS = np.empty(0, np.float32)

    def _noise(self, counter: int) -> NDArray[np.float32]:
        """(L,3,S,S); made again only when the counter moved."""
        if counter != self._noise_counter:
            size = self.model.image_size
            self._noise_L3SS = np.stack(
                [
                    philox.normal(
                        (3, size, size), seed=self._seed, lambda_index=i, frame_counter=counter
                    )
                    for i in range(len(self.model.lambdas))
                ]
            )
            self._noise_counter = counter
        return self._noise_L3SS

    def inject(self, frames: Sequence[NDArray[np.uint8]], counter: int) -> Injected:
        size, value_range = self.model.image_size, self.model.value_range
        image_B3SS = np.stack([to_image(frame, size, value_range) for frame in frames])
        noise_L13SS = self._noise(counter)[:, None]
        x_t = diffusion.corrupt(image_B3SS[None], noise_L13SS, self._alpha_bar)
        return Injected(image_B3SS, x_t.reshape(-1, 3, size, size))

    def restore(
        self, x_t: NDArray[np.float32], noise: NDArray[np.float32], image: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        levels = (len(self.model.lambdas), *image.shape)
        x_LB, noise_LB = x_t.reshape(levels), noise.reshape(levels)
        estimate = diffusion.clamp(diffusion.one_step_estimate(x_LB, noise_LB, self._alpha_bar))
        if self.model.fusion == "norm_guided":
            alpha_n = self._alpha_bar[0]
            guided = diffusion.guided_noise(x_LB[0], noise_LB[0], estimate[1], alpha_n)
            estimate = diffusion.clamp(diffusion.one_step_estimate(x_LB[0], guided, alpha_n))[None]
        images = np.broadcast_to(image, estimate.shape)
        return np.concatenate([images, estimate], axis=2).reshape(-1, 6, *image.shape[2:])

    def pool(self, masks: NDArray[np.float32], batch: int) -> Pooled:
        size = self.model.image_size
        score_map = masks.reshape(-1, batch, size, size).mean(axis=0)
        scores = top_mean(score_map.reshape(batch, -1), self.model.top_k)
        return Pooled(score_map, heat_of(score_map), scores)


def heat_of(score_map: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A score map on the fixed scale 0..1 → 0..255; what is not a number is 255."""
    return np.rint(np.nan_to_num(score_map, nan=1.0).clip(0, 1) * 255).astype(np.uint8)


def top_mean(pixels: NDArray[np.float32], top_k: int) -> NDArray[np.float32]:
    """Image scores: the mean of the K highest pixels, or of all where there are fewer.

    Args:
        pixels: (B,P), P at least 1.
        top_k: K.

    Returns:
        (B,) float32; not a number where a pixel is none.
    """
    count = min(top_k, pixels.shape[1])
    top = np.partition(pixels, -count, axis=1)[:, -count:]
    scores = top.mean(axis=1, dtype=np.float64).astype(np.float32)
    scores[np.isnan(pixels).any(axis=1)] = np.nan
    return scores
