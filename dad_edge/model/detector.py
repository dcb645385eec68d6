"""DiffusionAD: denoiser and segmenter joined by the one-step estimate."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from dad_edge.config import ModelConfig, TrainConfig
from dad_edge.model import diffusion
from dad_edge.model.denoiser import Denoiser
from dad_edge.model.losses import mask_loss, noise_loss
from dad_edge.model.segmenter import FeatureSegmenter, Segmenter


class Example(NamedTuple):
    """One training step's images and what was drawn for them."""

    image: Tensor
    """(B,3,S,S), in the model's value range."""
    original: Tensor
    """(B,3,S,S), the same before anomalies were put in."""
    mask: Tensor
    """(B,1,S,S) in {0, 1}."""
    noise: Tensor
    """(T,B,3,S,S) standard normal; T is 2 where the fusion is norm-guided, else 1."""
    steps: Tensor
    """(T,B) time steps."""


class Losses(NamedTuple):
    """The two parts of the training loss."""

    restoration: Tensor
    """Of the noise (Eq. 6), or of what takes its place in an ablation."""
    mask: Tensor
    """Of the anomaly mask (Eq. 7)."""


class Detector(nn.Module):
    """Both sub-networks with the schedule they were trained for."""

    alpha_bar: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(config.denoiser, config.image_size, config.schedule)
        self.segmenter: nn.Module = (
            Segmenter(config.segmenter)
            if config.segmenter.encoder == "none"
            else FeatureSegmenter(config.segmenter)
        )
        table = torch.from_numpy(diffusion.alpha_bar_table(config.schedule)).float()
        self.register_buffer("alpha_bar", table, persistent=False)

    def estimate(self, x_t: Tensor, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """Noise and clamped x̂0 of a noisy image (Eq. 5).

        Args:
            x_t: (B,3,S,S).
            t_B: (B,) time steps.

        Returns:
            ε̂ and x̂0, both (B,3,S,S).
        """
        noise = self.denoiser(x_t, t_B)
        restored = diffusion.one_step_estimate(x_t, noise, self._alpha(t_B))
        return noise, diffusion.clamp(restored)

    def guided_estimate(
        self, x_n: Tensor, n_B: Tensor, x_m: Tensor, m_B: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Both noises and the clamped x̂0, guided by the larger time step (journal version).

        Args:
            x_n: (B,3,S,S), corrupted to the smaller time step.
            n_B: (B,) smaller time steps.
            x_m: (B,3,S,S), corrupted to the larger time step.
            m_B: (B,) larger time steps.

        Returns:
            ε_n, ε_m and x̂0, each (B,3,S,S).
        """
        alpha_n = self._alpha(n_B)
        noise_n = self.denoiser(x_n, n_B)
        noise_m, restored_m = self.estimate(x_m, m_B)
        guided = diffusion.guided_noise(x_n, noise_n, restored_m, alpha_n)
        estimate = diffusion.one_step_estimate(x_n, guided, alpha_n)
        return noise_n, noise_m, diffusion.clamp(estimate)

    def corrupt(self, image: Tensor, noise: Tensor, t_B: Tensor) -> Tensor:
        """x_t of every image at its own time step (Eq. 2)."""
        return diffusion.corrupt(image, noise, self._alpha(t_B))

    def _alpha(self, t_B: Tensor) -> Tensor:
        return self.alpha_bar[t_B][:, None, None, None]

    def segment(self, image: Tensor, restored: Tensor) -> Tensor:
        """(B,3,S,S) image and x̂0 → (B,1,S,S) logits of the anomaly mask."""
        logits: Tensor = self.segmenter(torch.cat([image, restored], dim=1))
        return logits

    def losses(self, example: Example, settings: TrainConfig) -> Losses:
        """Loss of a training step, end to end through x̂0 (Algorithm 1, Eq. 6-8)."""
        image, _, mask, noise, steps = example
        noisy = [self.corrupt(image, eps, t) for eps, t in zip(noise, steps, strict=True)]
        if self.config.fusion == "norm_guided":
            *predicted, restored = self.guided_estimate(noisy[0], steps[0], noisy[1], steps[1])
        else:
            *predicted, restored = self.estimate(noisy[0], steps[0])
        logits = self.segment(image, restored)
        terms = [
            noise_loss(guess.float(), eps, mask, settings.noise_loss_on, self._weight(t, settings))
            for guess, eps, t in zip(predicted, noise, steps, strict=True)
        ]
        return Losses(
            torch.stack(terms).sum(), mask_loss(logits.float(), mask, settings.focal_weight)
        )

    def _weight(self, t_B: Tensor, settings: TrainConfig) -> Tensor | None:
        """(B,) min(1, limit / SNR), so that hardly noisy images do not rule the noise loss.

        An error of x̂0 counts SNR = ᾱ/(1-ᾱ) times in ε̂ (min-SNR weighting, Hang et al. 2023).
        """
        if not settings.snr_limit:
            return None
        alpha_B = self.alpha_bar[t_B]
        return (settings.snr_limit * (1 - alpha_B) / alpha_B).clip(max=1)

    def forward(self, image: Tensor, noise_LB3SS: Tensor) -> tuple[Tensor, Tensor]:
        """Inference on given noise (Algorithm 2; journal version if norm-guided).

        Args:
            image: (B,3,S,S) in the model's value range.
            noise_LB3SS: (L,B,3,S,S) standard normal, one for each λ.

        Returns:
            Mask (B,1,S,S) in [0,1], and x̂0 (L,B,3,S,S), or (1,B,3,S,S) if guided.
        """
        steps = [
            torch.full((image.shape[0],), step, device=image.device) for step in self.config.lambdas
        ]
        noisy = [self.corrupt(image, eps, t) for eps, t in zip(noise_LB3SS, steps, strict=True)]
        if self.config.fusion == "norm_guided":
            restored = [self.guided_estimate(noisy[0], steps[0], noisy[1], steps[1])[-1]]
        else:
            restored = [self.estimate(x, t)[1] for x, t in zip(noisy, steps, strict=True)]
        masks = [self.score(torch.cat([image, x0], dim=1)) for x0 in restored]
        return torch.stack(masks).mean(dim=0), torch.stack(restored)

    def denoise(self, x_t: Tensor) -> Tensor:
        """The denoising engine: (L·B,3,S,S) at the λ of its row l·B + b → noise of that shape."""
        steps_L = torch.tensor(self.config.lambdas, device=x_t.device)
        noise: Tensor = self.denoiser(x_t, steps_L.repeat_interleave(x_t.shape[0] // len(steps_L)))
        return noise

    def score(self, pair: Tensor) -> Tensor:
        """The segmenting engine: (N,6,S,S) image ⊕ x̂0 → (N,1,S,S) mask in [0,1]."""
        return torch.sigmoid(self.segmenter(pair))
