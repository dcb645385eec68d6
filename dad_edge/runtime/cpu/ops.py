"""The steps around the networks in NumPy: the reference of every other backend."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dad_edge.config import ModelConfig
from dad_edge.image.preprocess import to_image
from dad_edge.model import diffusion, philox
from dad_edge.runtime.inspection import heat_of, top_mean
from dad_edge.runtime.seams import Injected, Pooled


class NumpyOps:
    """Inject, restore and pool on the CPU; one thread at a time.

    Every step writes straight into its result, which is new and belongs to the caller. Only the
    frame in float32, the largest array of all, is written into the same memory each time.
    """

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
        self._signal_rate = self._alpha_bar**0.5
        self._noise_rate = (1 - self._alpha_bar) ** 0.5
        self._seed = seed
        self._noise_counter: int | None = None
        self._scaled_noise_L13SS = np.empty(0, np.float32)
        self._scratch = np.empty(0, np.float32)

    def _scaled_noise(self, counter: int) -> NDArray[np.float32]:
        """√(1-ᾱ) · ε, (L,1,3,S,S); made again only when the counter moved."""
        if counter != self._noise_counter:
            size = self.model.image_size
            noise_L3SS = np.stack(
                [
                    philox.normal(
                        (3, size, size), seed=self._seed, lambda_index=i, frame_counter=counter
                    )
                    for i in range(len(self.model.lambdas))
                ]
            )
            self._scaled_noise_L13SS = self._noise_rate * noise_L3SS[:, None]
            self._noise_counter = counter
        return self._scaled_noise_L13SS

    def inject(self, frames: Sequence[NDArray[np.uint8]], counter: int) -> Injected:
        size, value_range = self.model.image_size, self.model.value_range
        image_B3SS = np.empty((len(frames), 3, size, size), np.float32)
        for frame, image in zip(frames, image_B3SS, strict=True):
            if self._scratch.shape != frame.shape:
                self._scratch = np.empty(frame.shape, np.float32)
            to_image(frame, size, value_range, scratch=self._scratch, out=image)
        # Eq. 2, with its second term made beforehand.
        x_t_LB3SS = self._signal_rate * image_B3SS
        x_t_LB3SS += self._scaled_noise(counter)
        return Injected(image_B3SS, x_t_LB3SS.reshape(-1, 3, size, size))

    def restore(
        self, x_t: NDArray[np.float32], noise: NDArray[np.float32], image: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        levels = (len(self.model.lambdas), *image.shape)
        x_LB, noise_LB = x_t.reshape(levels), noise.reshape(levels)
        guided = self.model.fusion == "norm_guided"
        if guided:
            alpha_n, alpha_m = self._alpha_bar[:2]
            estimate_m = diffusion.one_step_estimate(x_LB[1], noise_LB[1], alpha_m)
            noise_LB = diffusion.guided_noise(
                x_LB[0], noise_LB[0], diffusion.clamp(estimate_m), alpha_n
            )[None]
            x_LB = x_LB[:1]
        count, sides = len(x_LB), image.shape[2:]
        pair_LB6SS = np.empty((count, len(image), 6, *sides), np.float32)
        pair_LB6SS[:, :, :3] = image
        # Eq. 5, written straight into the pair.
        estimate = pair_LB6SS[:, :, 3:]
        np.multiply(self._noise_rate[:count], noise_LB, out=estimate)
        np.subtract(x_LB, estimate, out=estimate)
        np.divide(estimate, self._signal_rate[:count], out=estimate)
        np.clip(estimate, *diffusion.CLAMP, out=estimate)
        return pair_LB6SS.reshape(-1, 6, *sides)

    def pool(self, masks: NDArray[np.float32], batch: int) -> Pooled:
        size = self.model.image_size
        score_map = masks.reshape(-1, batch, size, size).mean(axis=0)
        scores = top_mean(score_map.reshape(batch, -1), self.model.top_k)
        return Pooled(score_map, heat_of(score_map), scores)
