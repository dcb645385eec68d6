"""Inspection on an NVIDIA GPU: one CUDA graph a batch."""
