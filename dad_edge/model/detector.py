"""DiffusionAD: denoiser and segmenter joined by the one-step estimate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dad_edge.config import ModelConfig
from dad_edge.model import diffusion
from dad_edge.model.denoiser import Denoiser
from dad_edge.model.segmenter import Segmenter


class Detector(nn.Module):
    """Both sub-networks with the schedule they were trained for."""

    alpha_bar: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.denoiser = Denoiser(config.denoiser, config.image_size)
        self.segmenter = Segmenter(config.segmenter)
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
        restored = diffusion.one_step_estimate(x_t, noise, self.alpha_bar[t_B][:, None, None, None])
        return noise, diffusion.clamp(restored)

    def segment(self, image: Tensor, restored: Tensor) -> Tensor:
        """(B,3,S,S) image and x̂0 → (B,1,S,S) logits of the anomaly mask."""
        logits: Tensor = self.segmenter(torch.cat([image, restored], dim=1))
        return logits

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
        alphas = [self.alpha_bar[step] for step in self.config.lambdas]
        noisy = [
            diffusion.corrupt(image, noise, alpha)
            for noise, alpha in zip(noise_LB3SS, alphas, strict=True)
        ]
        if self.config.fusion == "norm_guided":
            noise_n = self.denoiser(noisy[0], steps[0])
            _, restored_m = self.estimate(noisy[1], steps[1])
            guided = diffusion.guided_noise(noisy[0], noise_n, restored_m, alphas[0])
            estimate = diffusion.one_step_estimate(noisy[0], guided, alphas[0])
            restored = [diffusion.clamp(estimate)]
        else:
            restored = [self.estimate(x, t)[1] for x, t in zip(noisy, steps, strict=True)]
        masks = [torch.sigmoid(self.segment(image, x0)) for x0 in restored]
        return torch.stack(masks).mean(dim=0), torch.stack(restored)
