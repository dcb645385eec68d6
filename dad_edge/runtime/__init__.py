"""Frames in, verdicts out: engines, inspectors, and how one is chosen and opened."""
