"""DiffusionAD on the line: one-step denoising-diffusion anomaly detection for inspection."""

__version__ = "0.1.0"
