"""Triton Inference Server: a bundle as a model of it, and the engine that asks it."""
